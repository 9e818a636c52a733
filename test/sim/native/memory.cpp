// The memory of the simulated device, and pinned host memory: each allocation between pages that fault, poisoned with NaN
// bytes, and after its death a page range that faults for as long as there is room to remember it.
#include <sys/mman.h>

#include <cstring>

#include "world.h"

namespace sim {
namespace {

constexpr size_t page = 4096, watched = 64, remembered = 4096;
constexpr int poison = 0xff;

struct Allocation {
  Place place;
  uint64_t number;
  char *begin;
  size_t bytes;
  char *pages;
  size_t page_bytes;
  bool live;

  char *end() const { return begin + bytes; }
  char *pages_end() const { return pages + page_bytes; }
  const char *name() const { return place == Place::device ? "device" : "pinned host"; }
};

struct Memory {
  /** By the guard page in front; live ones, and dead ones as long as they are remembered. */
  std::map<uintptr_t, Allocation> areas;
  std::map<uintptr_t, const Allocation *> live;
  std::deque<uintptr_t> dead;
  std::map<uintptr_t, size_t> globals;
  size_t total = size_t{8} << 30, used = 0, peak = 0;
  uint64_t numbers = 0;
  uint32_t alignment = 0;
};

Memory &memory() {
  static Memory *const it = new Memory;
  return *it;
}

uintptr_t number(const void *p) { return reinterpret_cast<uintptr_t>(p); }

/** The area an address lies in, guard pages included. */
Allocation *area_of(const void *p) {
  auto &areas = memory().areas;
  auto next = areas.upper_bound(number(p));
  if (next == areas.begin()) return nullptr;
  Allocation &area = std::prev(next)->second;
  return number(p) < number(area.pages_end()) + page ? &area : nullptr;
}

Allocation *live_at(Place place, const void *p, size_t bytes) {
  Allocation *const area = area_of(p);
  if (area == nullptr || !area->live || area->place != place) return nullptr;
  const uintptr_t begin = number(area->begin), at = number(p);
  return at >= begin && bytes <= area->bytes && at - begin <= area->bytes - bytes ? area : nullptr;
}

bool untouched(const char *from, const char *to) {
  for (; from < to; ++from)
    if (static_cast<unsigned char>(*from) != poison) return false;
  return true;
}

/** Notes bytes written between an allocation and the end of its pages, as far as `reach`; then poisons them again. */
void check_ends_of(const Allocation &it, size_t reach, const char *what) {
  char *const from = static_cast<size_t>(it.begin - it.pages) > reach ? it.begin - reach : it.pages;
  char *const to = static_cast<size_t>(it.pages_end() - it.end()) > reach ? it.end() + reach : it.pages_end();
  if (untouched(from, it.begin) && untouched(it.end(), to)) return;
  const bool before = !untouched(from, it.begin);
  violation("%s: something wrote %s %s allocation %llu of %zu bytes", what, before ? "in front of" : "past the end of",
            it.name(), static_cast<unsigned long long>(it.number), it.bytes);
  memset(from, poison, static_cast<size_t>(it.begin - from));
  memset(it.end(), poison, static_cast<size_t>(to - it.end()));
}

void give_back(const Allocation &it) { munmap(it.pages - page, it.page_bytes + 2 * page); }

void bury(uintptr_t key) {
  Memory &it = memory();
  it.dead.push_back(key);
  if (it.dead.size() <= remembered) return;
  give_back(it.areas.at(it.dead.front()));
  it.areas.erase(it.dead.front());
  it.dead.pop_front();
}

}  // namespace

void *allocate(Place place, size_t bytes) {
  Memory &it = memory();
  const bool counts = place == Place::device;
  if (counts && (bytes > it.total || it.used > it.total - bytes)) return nullptr;
  const size_t whole = (bytes + page - 1) / page * page;
  void *const area = mmap(nullptr, whole + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (area == MAP_FAILED) return nullptr;
  char *const pages = static_cast<char *>(area) + page;
  mprotect(pages, whole, PROT_READ | PROT_WRITE);
  memset(pages, poison, whole);
  const size_t slack = it.alignment == 0 ? 0 : (whole - bytes) / it.alignment * it.alignment;
  Allocation &made = it.areas[number(area)];
  made = {place, ++it.numbers, pages + slack, bytes, pages, whole, true};
  it.live[number(area)] = &made;
  if (counts) it.used += bytes;
  if (it.used > it.peak) it.peak = it.used;
  return pages + slack;
}

bool release(Place place, void *address) {
  Allocation *const it = live_at(place, address, 0);
  if (it == nullptr || it->begin != address) return false;
  check_ends_of(*it, it->page_bytes, "before it was freed");
  madvise(it->pages, it->page_bytes, MADV_DONTNEED);
  mprotect(it->pages, it->page_bytes, PROT_NONE);
  it->live = false;
  if (place == Place::device) memory().used -= it->bytes;
  memory().live.erase(number(it->pages - page));
  bury(number(it->pages - page));
  return true;
}

bool device_range(const void *p, size_t bytes) {
  if (live_at(Place::device, p, bytes) != nullptr) return true;
  const auto &globals = memory().globals;
  const auto next = globals.upper_bound(number(p));
  if (next == globals.begin()) return false;
  const auto &[begin, size] = *std::prev(next);
  return bytes <= size && number(p) - begin <= size - bytes;
}

bool pinned_range(const void *p, size_t bytes) { return live_at(Place::host, p, bytes) != nullptr; }

std::string describe(const void *p) {
  const Allocation *const it = area_of(p);
  if (p == nullptr) return "address 0";
  if (it == nullptr) return text("%p, which is in no allocation", p);
  const auto named = text("%s%s allocation %llu of %zu bytes", it->live ? "" : "freed ", it->name(),
                          static_cast<unsigned long long>(it->number), it->bytes);
  const auto distance = static_cast<long long>(number(p) - number(it->begin));
  if (distance < 0) return text("%p, %lld bytes in front of %s", p, -distance, named.c_str());
  if (static_cast<size_t>(distance) < it->bytes) return text("%p, byte %lld of %s", p, distance, named.c_str());
  return text("%p, %lld bytes past the end of %s", p, distance - static_cast<long long>(it->bytes), named.c_str());
}

void check_ends(const char *what) {
  for (const auto &[key, it] : memory().live) check_ends_of(*it, watched, what);
}

void add_global(const void *address, size_t bytes) { memory().globals[number(address)] = bytes; }
void drop_global(const void *address) { memory().globals.erase(number(address)); }

MemoryUse memory_use() { return {memory().total, memory().used, memory().peak}; }
void memory_limit(size_t total) { memory().total = total; }
void align_right(uint32_t alignment) { memory().alignment = alignment; }

void forget_memory() {
  for (const auto &[key, it] : memory().areas) give_back(it);
  memory().areas.clear();
  memory().live.clear();
  memory().dead.clear();
  memory().globals.clear();
  memory().used = memory().numbers = 0;
}

void forget_peak() { memory().peak = memory().used; }

std::vector<std::string> live_memory() {
  std::vector<std::string> lines;
  for (const auto &[key, it] : memory().live)
    lines.push_back(text("%s allocation %llu of %zu bytes", it->name(), static_cast<unsigned long long>(it->number),
                         it->bytes));
  return lines;
}

}  // namespace sim
