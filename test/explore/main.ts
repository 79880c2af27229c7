/**
 * Explores the settlement machine: every interleaving of callers, facilitators, chain, node and ledger, the promises
 * checked in each world. `npm run explore -- --help`.
 */
import { fork } from 'node:child_process'
import { parseArgs } from 'node:util'
import { guards } from '../../src/settlement/machine.ts'
import { type Exploration, explore } from './explore.ts'
import { mutations } from './mutations.ts'
import { setups } from './setups.ts'

const usage = `usage: npm run explore -- [options]

  --states N   distinct worlds in each setup, at most (250000; with --mutate 300000)
  --setup NAME only this setup; may be repeated
  --mutate     removes or weakens each guard of the machine in turn: each mutation has to be caught
  --json       one JSON object a line instead of the table

setups: ${setups.map(({ name }) => name).join(', ')}`

interface Task {
  readonly setup: string
  readonly mutation: string | undefined
  readonly states: number
}

interface Result extends Task {
  readonly exploration: Exploration
}

if (process.send !== undefined) work()
else await main()

function work(): void {
  process.on('message', (task: Task) => {
    const setup = setups.find(({ name }) => name === task.setup)
    if (setup === undefined) throw new Error(`there is no setup ${task.setup}`)
    const mutated = { ...guards, ...mutations[task.mutation ?? ''] }
    process.send?.({ ...task, exploration: explore(setup, mutated, task.states) } satisfies Result)
  })
}

async function main(): Promise<void> {
  const { values: flags } = parseArgs({
    options: {
      states: { type: 'string' },
      setup: { type: 'string', multiple: true },
      mutate: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  const states = Number(flags.states ?? (flags.mutate ? 300_000 : 250_000))
  const names = flags.setup ?? setups.map(({ name }) => name)
  const isWrong =
    !(Number.isInteger(states) && states > 0) || names.some(name => !setups.some(one => one.name === name))
  if (flags.help || isWrong) {
    console.log(usage)
    process.exit(flags.help ? 0 : 1)
  }
  const startedAt = performance.now()
  const show = (line: string, result: unknown) => console.log(flags.json ? JSON.stringify(result) : line)
  const isKept = flags.mutate ? await mutate(names, states, show) : await exploreAll(names, states, show)
  if (!flags.json) console.log(`${((performance.now() - startedAt) / 1000).toFixed(1)} s on 2 processes`)
  process.exitCode = isKept ? 0 : 1
}

type Show = (line: string, result: unknown) => void

async function exploreAll(names: readonly string[], states: number, show: Show): Promise<boolean> {
  let isKept = true
  let total = 0
  await inTwoProcesses(
    names.map(setup => ({ setup, mutation: undefined, states })),
    result => {
      const { setup, exploration } = result
      const { states: seen, transitions, depth, seconds, isComplete, violation } = exploration
      total += seen
      isKept &&= violation === undefined
      const extent = isComplete ? 'all there are' : 'the nearest'
      const figures = `${seen} states (${extent}), ${transitions} transitions, depth ${depth}, ${seconds.toFixed(1)} s`
      show(
        violation === undefined ? `${setup}: ${figures}` : `${setup}: ${figures}\n${story(violation)}`,
        result,
      )
    },
  )
  show(isKept ? `${total} states: every promise kept` : 'PROMISE BROKEN', { total, isKept })
  return isKept
}

/** A mutation is caught when one of the setups shows what it breaks. */
async function mutate(names: readonly string[], states: number, show: Show): Promise<boolean> {
  const all = Object.keys(mutations)
  const left = new Set(all)
  await inTwoProcesses(
    all.flatMap(mutation => names.map(setup => ({ setup, mutation, states }))),
    result => {
      const { mutation = '', setup, exploration } = result
      if (exploration.violation === undefined || !left.delete(mutation)) return
      show(`${mutation}, ${setup}:\n${story(exploration.violation)}`, result)
    },
    ({ mutation = '' }) => left.has(mutation),
  )
  const caught = all.length - left.size
  const missed = left.size === 0 ? '' : `; NOT CAUGHT: ${[...left].join(', ')}`
  show(`${caught} of ${all.length} mutations caught${missed}`, { caught, missed: [...left] })
  return left.size === 0
}

function story(violation: readonly string[]): string {
  return violation.map(line => `    ${line}`).join('\n')
}

async function inTwoProcesses(
  tasks: readonly Task[],
  onResult: (result: Result) => void,
  isWanted: (task: Task) => boolean = () => true,
): Promise<void> {
  const queue = [...tasks]
  const run = () =>
    new Promise<void>((resolve, reject) => {
      const child = fork(import.meta.filename, {
        execArgv: ['--max-old-space-size=6000', ...process.execArgv],
      })
      const next = () => {
        let task = queue.shift()
        while (task !== undefined && !isWanted(task)) task = queue.shift()
        if (task === undefined) child.disconnect()
        else child.send(task)
      }
      child.on('message', (result: Result) => {
        onResult(result)
        next()
      })
      child.on('exit', code =>
        code === 0 ? resolve() : reject(new Error(`a search ended with exit code ${code}`)),
      )
      next()
    })
  await Promise.all([run(), run()])
}
