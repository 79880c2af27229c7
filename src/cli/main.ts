#!/usr/bin/env node
/** The command line: `x402-aggregator serve | check | status | export | reconcile`. */
import { createRequire } from 'node:module'
import { AggregatorError } from '../errors.ts'
import { nearest } from '../options/nearest.ts'
import { printable } from './printable.ts'
import { UsageError } from './usage-error.ts'

const help = `x402-aggregator: one reliable x402 facilitator made of many

usage: x402-aggregator <command> [options]

commands:
  serve          a gateway that looks like one facilitator, for servers in any language
  check          asks every configured facilitator once; exit code 1 when one cannot be used
  status <url>   live table of a running gateway
  export         the payments of a ledger, as CSV or JSON
  reconcile      a ledger held against its chain; exit code 1 when anything is found

examples:
  FACILITATOR_1_URL=https://facilitator.x402.rs x402-aggregator check
  FACILITATOR_GATEWAY_TOKEN=… x402-aggregator serve --port 4020
  x402-aggregator status http://127.0.0.1:4020
  x402-aggregator export --since 30d > payments.csv

\`x402-aggregator <command> --help\` lists the options. Facilitators come from environment variables
(FACILITATOR_<n>_URL, …), or from a JSON file of the same names given by --config; variables win.`

type Command = (args: string[]) => Promise<number>

const commands: Record<string, () => Promise<Command>> = {
  serve: async () => (await import('./serve.ts')).serve,
  check: async () => (await import('./check.ts')).check,
  status: async () => (await import('./status.ts')).status,
  export: async () => (await import('./export.ts')).exportPayments,
  reconcile: async () => (await import('./reconcile.ts')).reconcileLedger,
}

async function main([name, ...args]: string[]): Promise<number> {
  if (name === 'help' && args[0] !== undefined) return main([args[0], '--help'])
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    console.log(help)
    return name === undefined ? 2 : 0
  }
  if (name === '--version' || name === '-v') {
    console.log(createRequire(import.meta.url)('x402-facilitator-aggregator/package.json').version)
    return 0
  }
  const load = Object.hasOwn(commands, name) ? commands[name] : undefined
  if (load === undefined) {
    const names = Object.keys(commands)
    const meant = nearest(name, names)
    const hint = meant === undefined ? '' : `: did you mean ${meant}?`
    throw new UsageError(`"${name}" is not a command; there are ${names.join(', ')}${hint}`)
  }
  return (await load())(args)
}

function explain(error: unknown): string {
  if (error instanceof UsageError || error instanceof AggregatorError) return error.message
  const { code, message = String(error) } = error as { code?: string; message?: string }
  const missing = /Cannot find package '([^']+)'/.exec(message)?.[1]
  if (code === 'ERR_MODULE_NOT_FOUND' && missing !== undefined)
    return `this command needs ${missing}: npm install hono @hono/node-server`
  return (error as Error).name === 'InvalidListenError' ? message : ((error as Error).stack ?? message)
}

main(process.argv.slice(2)).then(
  code => {
    process.exitCode = code
  },
  error => {
    for (const line of `x402-aggregator: ${explain(error)}`.split('\n')) console.error(printable(line))
    // A connection to a ledger that is still open would keep the process alive.
    process.stderr.write('', () => process.exit(2))
  },
)
