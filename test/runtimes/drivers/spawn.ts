import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { paths } from '../paths.ts'

export interface Ended {
  readonly stdout: string
  readonly stderr: string
  /** Milliseconds from the last output to the end. */
  readonly idleMs: number
}

/** Neither keys nor options of the person's shell reach a runtime. */
export function start(command: string, args: string[], env: Record<string, string> = {}): ChildProcess {
  if (!existsSync(command)) throw new Error(`it is not installed: there is no ${command}`)
  const { PATH = '', HOME = '' } = process.env
  const child = spawn(command, args, {
    cwd: paths.root,
    env: { PATH, HOME, ...env },
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
  })
  const kill = () => child.kill('SIGKILL')
  process.once('exit', kill)
  child.once('close', () => process.off('exit', kill))
  return child
}

/** @throws when it fails, or has not ended within `timeoutMs` */
export function finish(child: ChildProcess, timeoutMs: number): Promise<Ended> {
  return new Promise((resolve, reject) => {
    let [stdout, stderr] = ['', '']
    let lastOutputAt = performance.now()
    let isLate = false
    child.stdout?.on('data', chunk => {
      stdout += chunk
      lastOutputAt = performance.now()
    })
    child.stderr?.on('data', chunk => {
      stderr += chunk
    })
    const timer = setTimeout(() => {
      isLate = true
      child.kill('SIGKILL')
    }, timeoutMs)
    child.once('error', reject)
    child.once('close', (code, signal) => {
      clearTimeout(timer)
      if (code === 0) return resolve({ stdout, stderr, idleMs: performance.now() - lastOutputAt })
      const how = isLate ? `did not end within ${timeoutMs} ms` : `ended with ${signal ?? `code ${code}`}`
      reject(new Error(`it ${how}\n${stdout}${stderr}`.trimEnd()))
    })
  })
}

/** The version in the first line of what a command prints. */
export async function versionOf(command: string, args = ['--version']): Promise<string> {
  const { stdout } = await finish(start(command, args), 20_000)
  return /\d[\w.-]*/.exec(stdout)?.[0] ?? stdout.trim()
}
