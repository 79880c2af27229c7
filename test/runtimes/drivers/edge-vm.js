/** Evaluates the script that the argument names in an Edge runtime, and prints its report. */
import { readFileSync } from 'node:fs'
import { EdgeVM } from '@edge-runtime/vm'

// As in production, where code that is made from text is forbidden.
const runtime = new EdgeVM({ codeGeneration: { strings: false, wasm: false } })
runtime.evaluate(readFileSync(process.argv[2], 'utf8'))
console.log(await runtime.evaluate('suite.report()'))
