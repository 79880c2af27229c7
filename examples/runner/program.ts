/** A program in a process of its own, which ends with this one. */
import { type ChildProcess, spawn } from 'node:child_process'
import { createServer } from 'node:net'

export interface Program {
  readonly url: string
  /** @throws when it has not ended ten seconds after being told to */
  stop(): Promise<void>
}

export interface Command {
  readonly command: string
  readonly args: readonly string[]
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
}

/** What a program needs of this one's environment; the rest could name other facilitators. */
const { PATH = '', HOME = '' } = process.env

/**
 * Starts a server and waits for the line that says where it listens.
 *
 * @throws when it ends, or says nothing for a minute, with what it printed
 */
export async function startServer(name: string, command: Command): Promise<Program> {
  const child = run(command)
  const ended = new Promise<void>(resolve => child.once('exit', () => resolve()))
  let output = ''
  const url = await new Promise<string>((resolve, reject) => {
    const fail = (what: string) => reject(new Error(`${name} ${what}:\n${output}`))
    const timer = setTimeout(fail, 60_000, 'did not listen within a minute')
    const onOutput = (chunk: Buffer) => {
      output += chunk
      const listening = /(?:listening on|Local:) +(http:\/\/\S+)/.exec(output)?.[1]
      if (listening === undefined) return
      clearTimeout(timer)
      resolve(listening)
    }
    child.stdout?.on('data', onOutput)
    child.stderr?.on('data', onOutput)
    child.once('error', error => fail(`could not be started: ${error.message}`))
    child.once('exit', code => fail(`ended with code ${code}`))
  }).catch(error => {
    kill(child)
    throw error
  })
  return {
    url,
    async stop() {
      child.kill('SIGTERM')
      let isKilled = false
      const timer = setTimeout(() => {
        isKilled = true
        kill(child)
      }, 10_000)
      await ended
      clearTimeout(timer)
      if (isKilled) throw new Error(`${name} did not end on SIGTERM:\n${output}`)
    },
  }
}

/** @throws when it fails, with what it printed */
export async function runToEnd(name: string, command: Command): Promise<string> {
  const child = run(command)
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (chunk: Buffer) => {
      output += chunk
    })
  const code = await new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  if (code !== 0) throw new Error(`${name} ended with code ${code}:\n${output}`)
  return output
}

export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>(resolve => server.listen(0, resolve))
  const address = server.address()
  await new Promise(resolve => server.close(resolve))
  if (typeof address !== 'object' || address === null) throw new Error('there is no free port')
  return address.port
}

const running = new Set<ChildProcess>()
process.on('exit', () => {
  for (const child of running) kill(child)
})

function run({ command, args, cwd, env }: Command): ChildProcess {
  const child = spawn(command, args, {
    cwd,
    env: { PATH, HOME, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  })
  running.add(child)
  child.once('exit', () => running.delete(child))
  return child
}

/** With whatever it has started: it leads a process group of its own. */
function kill({ pid }: ChildProcess): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // It has ended.
  }
}
