/** The gateway of the command line, in a process of its own. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

const cli = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))

/** @param args the port is free, and the ledger in memory, by default */
export async function startGatewayProcess(env: Record<string, string>, args: string[] = []) {
  const gateway = spawn(process.execPath, ['--import', 'tsx', cli, 'serve', ...args], {
    env: { ...process.env, PORT: '0', FACILITATOR_LEDGER: 'memory', ...env },
    stdio: ['ignore', 'inherit', 'pipe'],
  })
  const kill = () => gateway.kill('SIGKILL')
  process.on('exit', kill)
  const exited = once(gateway, 'exit').then(([code]) => {
    process.off('exit', kill)
    return code as number | null
  })
  let output = ''
  const url = await new Promise<string>((resolve, reject) => {
    gateway.stderr.on('data', chunk => {
      output += chunk
      const listening = /listening on (\S+)/.exec(output)?.[1]
      if (listening !== undefined) resolve(listening)
    })
    exited.then(code => reject(new Error(`the gateway ended with code ${code}:\n${output}`)))
  })
  return {
    url,
    /** What it has said. */
    said: () => output,
    /** Sends a signal, and resolves with the exit code; `null` when the signal killed it. */
    end(signal: NodeJS.Signals): Promise<number | null> {
      gateway.kill(signal)
      return exited
    },
    signal: (signal: NodeJS.Signals) => gateway.kill(signal),
    exited,
  }
}
