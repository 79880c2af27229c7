/**
 * Explores the settlement machine, every interleaving of callers, facilitators, chain, node and ledger, and credit, every
 * interleaving of purchases at processes that share a ledger; the promises are checked in each world.
 * `npm run explore -- --help`.
 */
import { fork } from 'node:child_process'
import { parseArgs } from 'node:util'
import { guards } from '../../src/settlement/machine.ts'
import { exploreCredit } from './credit-explore.ts'
import { codeWith, creditMutations } from './credit-mutations.ts'
import { creditSetups } from './credit-setups.ts'
import { type Exploration, explore } from './explore.ts'
import { mutations } from './mutations.ts'
import { setups } from './setups.ts'

const usage = `usage: npm run explore -- [options]

  --states N   distinct worlds in each setup of the machine, at most (250000; with --mutate 300000)
  --credit-states N  the same in each setup of credit, which runs the library itself (10000)
  --setup NAME only this setup; may be repeated
  --mutate     removes or weakens each guard of the machine in turn: each mutation has to be caught
  --json       one JSON object a line instead of the table

setups: ${[...setups, ...creditSetups].map(({ name }) => name).join('; ')}`

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
    void exploreOne(task).then(exploration => process.send?.({ ...task, exploration } satisfies Result))
  })
}

async function exploreOne({ setup: name, mutation, states }: Task): Promise<Exploration> {
  const credit = creditSetups.find(one => one.name === name)
  if (credit !== undefined) return exploreCredit(credit, await codeWith(mutation), states)
  const setup = setups.find(one => one.name === name)
  if (setup === undefined) throw new Error(`there is no setup ${name}`)
  return explore(setup, { ...guards, ...mutations[mutation ?? ''] }, states)
}

async function main(): Promise<void> {
  const { values: flags } = parseArgs({
    options: {
      states: { type: 'string' },
      'credit-states': { type: 'string', default: '10000' },
      setup: { type: 'string', multiple: true },
      mutate: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  const states = Number(flags.states ?? (flags.mutate ? 300_000 : 250_000))
  const creditStates = Number(flags['credit-states'])
  const all = [...creditSetups, ...setups].map(({ name }) => name)
  const names = flags.setup ?? all
  const isWrong =
    ![states, creditStates].every(number => Number.isInteger(number) && number > 0) ||
    names.some(name => !all.includes(name))
  if (flags.help || isWrong) {
    console.log(usage)
    process.exit(flags.help ? 0 : 1)
  }
  const startedAt = performance.now()
  const show = (line: string, result: unknown) => console.log(flags.json ? JSON.stringify(result) : line)
  const tasks = names.map(setup => ({ setup, states: isOfCredit(setup) ? creditStates : states }))
  const isKept = flags.mutate ? await mutate(tasks, show) : await exploreAll(tasks, show)
  if (!flags.json) console.log(`${((performance.now() - startedAt) / 1000).toFixed(1)} s on 2 processes`)
  process.exitCode = isKept ? 0 : 1
}

function isOfCredit(setup: string): boolean {
  return creditSetups.some(({ name }) => name === setup)
}

type Show = (line: string, result: unknown) => void

async function exploreAll(tasks: readonly Omit<Task, 'mutation'>[], show: Show): Promise<boolean> {
  let isKept = true
  let total = 0
  await inTwoProcesses(
    tasks.map(task => ({ ...task, mutation: undefined })),
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
async function mutate(tasks: readonly Omit<Task, 'mutation'>[], show: Show): Promise<boolean> {
  const ofCredit = Object.entries(creditMutations).flatMap(([mutation, { setup }]) =>
    tasks.filter(task => task.setup === setup).map(task => ({ ...task, mutation })),
  )
  const ofMachine = tasks.filter(({ setup }) => !isOfCredit(setup))
  const mutated = Object.keys(mutations).flatMap(mutation => ofMachine.map(task => ({ ...task, mutation })))
  const all = [...new Set([...ofCredit, ...mutated].map(({ mutation }) => mutation))]
  const left = new Set(all)
  await inTwoProcesses(
    [...ofCredit, ...mutated],
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
