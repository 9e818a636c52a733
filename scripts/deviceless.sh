#!/usr/bin/env bash
# Installs NVIDIA's libraries from pip's index into a scratch environment and runs `npm run test:deviceless` on them; no GPU
# is needed. Where the index has no such packages it says so and succeeds; where it has them, nothing may go wrong.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(nvidia-cudnn-cu13 nvidia-cublas nvidia-cuda-nvrtc nvidia-cuda-runtime)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

if ! python3 -m venv "$scratch/venv" >"$scratch/log" 2>&1; then
  echo "test:deviceless skipped: python3 makes no virtual environment here ($(tail -n 1 "$scratch/log"))."
  exit 0
fi
pip=("$scratch/venv/bin/python" -m pip --disable-pip-version-check --no-input --retries 2)
if ! "${pip[@]}" install --no-deps --no-cache-dir "${packages[@]}" >"$scratch/log" 2>&1; then
  if grep -q 'No matching distribution found' "$scratch/log"; then
    echo "test:deviceless skipped: pip's index lacks $(sed -n 's/.*No matching distribution found for //p' "$scratch/log" | head -n 1)."
    exit 0
  fi
  cat "$scratch/log" >&2
  echo "test:deviceless failed: the index has ${packages[*]}, and they do not install." >&2
  exit 1
fi

PULLBACK_CUDA_PATH=$("$scratch/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib") + "/nvidia")')
export PULLBACK_CUDA_PATH PULLBACK_CUDA_WHEELS="$scratch/venv" PULLBACK_CUDA_REQUIRED=1
npm run test:deviceless
