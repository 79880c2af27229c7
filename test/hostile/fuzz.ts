/** Fuzzes the gateway, its listener and the facilitators' answers. `npm run fuzz -- --help`. */
import { fork } from 'node:child_process'
import { parseArgs } from 'node:util'
import { maxBytesPerCase, type Result } from './fuzz-run.ts'
import { targets } from './fuzz-targets.ts'

const usage = `usage: npm run fuzz -- [options]

  --cases N      in all, shared among the targets (50000)
  --seed S       of the first batch (1)
  --target NAME  only this one; may be repeated

targets: ${targets.map(({ name }) => name).join(', ')}
A failure is printed with the seed that brings it back, and shrunk.`

interface Task {
  readonly target: string
  readonly cases: number
  readonly seed: number
}

type Message = { readonly done: number } | { readonly result: Result; readonly counts: [string, number][] }

if (process.send !== undefined) work()
else await main()

function work(): void {
  process.once('message', async ({ target, cases, seed }: Task) => {
    const found = targets.find(({ name }) => name === target)
    if (found === undefined) throw new Error(`there is no target ${target}`)
    const send = (message: Message) => process.send?.(message)
    const result = await found.run(cases, seed, done => send({ done }))
    send({ result, counts: [...result.counts] })
    process.disconnect()
  })
}

async function main(): Promise<void> {
  const { values: flags } = parseArgs({
    options: {
      cases: { type: 'string', default: '50000' },
      seed: { type: 'string', default: '1' },
      target: { type: 'string', multiple: true },
      help: { type: 'boolean', default: false },
    },
  })
  const [cases, seed] = [Number(flags.cases), Number(flags.seed)]
  const names = flags.target ?? targets.map(({ name }) => name)
  const chosen = targets.filter(({ name }) => names.includes(name))
  if (
    flags.help ||
    !(Number.isInteger(cases) && cases > 0 && Number.isInteger(seed)) ||
    chosen.length === 0
  ) {
    console.log(usage)
    process.exit(flags.help ? 0 : 1)
  }
  const startedAt = performance.now()
  const shares = chosen.reduce((sum, { share }) => sum + share, 0)
  const results = await Promise.all(
    chosen.map(({ name, share }) =>
      runInProcess({ target: name, cases: Math.ceil((cases * share) / shares), seed }),
    ),
  )
  const failures = results.flatMap(({ failure }) => failure ?? [])
  const total = results.reduce((sum, { cases }) => sum + cases, 0)
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(0)
  console.log(
    `${total} cases in ${seconds} s: ${failures.length === 0 ? 'every promise kept' : 'PROMISE BROKEN'}`,
  )
  for (const failure of failures) console.log(`\n${failure}`)
  process.exitCode = failures.length === 0 ? 0 : 1
}

function runInProcess(task: Task): Promise<Result> {
  return new Promise((resolve, reject) => {
    const child = fork(import.meta.filename, { execArgv: ['--expose-gc', ...process.execArgv] })
    let result: Result | undefined
    let shownAt = performance.now()
    child.on('message', (message: Message) => {
      if ('result' in message) {
        result = { ...message.result, counts: new Map(message.counts) }
        show(result)
      } else if (performance.now() - shownAt > 10_000) {
        shownAt = performance.now()
        console.log(`${task.target}: ${message.done} of ${task.cases}`)
      }
    })
    child.on('exit', code =>
      result ? resolve(result) : reject(new Error(`${task.target} ended with code ${code}`)),
    )
    child.send(task)
  })
}

function show({ target, cases, seconds, slowestMs, bytesPerCase, counts }: Result): void {
  const memory =
    bytesPerCase === undefined
      ? ''
      : `, heap ${bytesPerCase.toFixed(1)} bytes a case (at most ${maxBytesPerCase})`
  console.log(
    `${target}: ${cases} cases in ${seconds.toFixed(0)} s, the slowest ${slowestMs.toFixed(0)} ms${memory}`,
  )
  for (const [name, times] of [...counts].sort(([, one], [, other]) => other - one))
    console.log(`  ${`${times}`.padStart(7)}  ${name}`)
}
