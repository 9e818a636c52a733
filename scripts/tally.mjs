// Prints "N passed, N failed" from vitest's JSON report: node scripts/tally.mjs REPORT EXIT_STATUS.
// A file that did not load counts as one failure, and so does a run that failed outside any test.
import { readFileSync } from 'node:fs'

const [path = '', status = '0'] = process.argv.slice(2)

function count() {
  let report
  try {
    report = JSON.parse(readFileSync(path, 'utf8'))
  } catch (error) {
    console.log(`no test report at ${path}: ${error.message}`)
    return { passed: 0, failed: 1 }
  }
  const broken = report.testResults.filter(
    (file) => file.status === 'failed' && !file.assertionResults.some((test) => test.status === 'failed'),
  )
  for (const file of broken) console.log(`did not load: ${file.name}`)
  const failed = report.numFailedTests + broken.length
  if (failed === 0 && status !== '0') console.log(`the run ended with status ${status} outside any test`)
  return { passed: report.numPassedTests, failed: failed === 0 && status !== '0' ? 1 : failed }
}

const { passed, failed } = count()
console.log(`${passed} passed, ${failed} failed`)
