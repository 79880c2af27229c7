/** A local EVM chain in a process of its own. */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'

export interface Anvil {
  readonly rpcUrl: string
  stop(): void
}

/**
 * @param blockTimeSeconds seconds between blocks; fractions are allowed
 * @throws when there is no anvil for this system, saying what to do
 */
export async function startAnvil(chainId: number, blockTimeSeconds: number): Promise<Anvil> {
  const process_ = spawn(
    findAnvil(),
    ['--port', '0', '--chain-id', `${chainId}`, '--block-time', `${blockTimeSeconds}`, '--accounts', '1'],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  )
  const stop = () => {
    process_.kill('SIGKILL')
    process.off('exit', stop)
  }
  process.on('exit', stop)
  const port = await portOf(process_)
  return { rpcUrl: `http://127.0.0.1:${port}`, stop }
}

function findAnvil(): string {
  const named = process.env.ANVIL
  if (named !== undefined) {
    if (existsSync(named)) return named
    throw new Error(
      `ANVIL names ${named}, where there is nothing: set it to the path of an anvil, or unset it.`,
    )
  }
  try {
    const manifest = createRequire(import.meta.url).resolve('@foundry-rs/anvil-linux-amd64/package.json')
    const binary = manifest.replace('package.json', 'bin/anvil')
    if (existsSync(binary)) return binary
  } catch {
    // Not installed: its package is for Linux on x86-64 only.
  }
  throw new Error(
    `There is no anvil for ${process.platform}-${process.arch} among the npm packages. ` +
      'Install Foundry and set ANVIL to the path of its anvil, or install with optional dependencies.',
  )
}

function portOf(anvil: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    let output = ''
    const onOutput = (chunk: Buffer) => {
      output += chunk
      const port = /Listening on [^:]+:(\d+)/.exec(output)?.[1]
      if (port !== undefined) resolve(Number(port))
    }
    anvil.stdout?.on('data', onOutput)
    anvil.stderr?.on('data', onOutput)
    anvil.on('error', reject)
    anvil.on('exit', code => reject(new Error(`anvil ended with code ${code}:\n${output}`)))
  })
}
