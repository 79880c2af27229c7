/**
 * Compiles the contracts beside this file into their checked-in artifacts.
 * With --check it changes nothing, and exits with 1 if an artifact is not what its source compiles to.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const solc = createRequire(import.meta.url)('solc') as {
  compile(input: string, callbacks: { import(file: string): { contents: string } }): string
  version(): string
}
const isCheck = process.argv.includes('--check')

interface Output {
  errors?: { severity: string; formattedMessage: string }[]
  contracts?: Record<
    string,
    Record<
      string,
      { abi: unknown; evm: { bytecode: { object: string }; deployedBytecode: { object: string } } }
    >
  >
}

for (const name of ['TestToken', 'Multicall3', 'TestPermit2', 'TestPermit2Proxy', 'TestWallet']) {
  const at = (suffix: string) => new URL(`./${name}${suffix}`, import.meta.url)
  const output: Output = JSON.parse(
    solc.compile(
      JSON.stringify({
        language: 'Solidity',
        sources: { [`${name}.sol`]: { content: readFileSync(at('.sol'), 'utf8') } },
        settings: {
          optimizer: { enabled: true, runs: 200 },
          evmVersion: 'paris',
          outputSelection: { '*': { '*': ['abi', 'evm.bytecode.object', 'evm.deployedBytecode.object'] } },
        },
      }),
      { import: imported => ({ contents: readFileSync(new URL(imported, import.meta.url), 'utf8') }) },
    ),
  )
  const errors = (output.errors ?? []).filter(error => error.severity === 'error')
  const contract = output.contracts?.[`${name}.sol`]?.[name]
  if (errors.length > 0 || contract === undefined) {
    console.error(
      errors.map(error => error.formattedMessage).join('\n') || `${name}.sol holds no contract ${name}`,
    )
    process.exit(1)
  }
  const artifact = `${JSON.stringify(
    {
      contractName: name,
      compiler: solc.version(),
      abi: contract.abi,
      bytecode: `0x${contract.evm.bytecode.object}`,
      deployedBytecode: `0x${contract.evm.deployedBytecode.object}`,
    },
    null,
    2,
  )}\n`
  if (!isCheck) {
    writeFileSync(at('.artifact.json'), artifact)
    console.log(`wrote ${name}.artifact.json`)
  } else if (readFileSync(at('.artifact.json'), 'utf8') === artifact) {
    console.log(`${name}.artifact.json is what ${name}.sol compiles to`)
  } else {
    console.error(`${name}.artifact.json is not what ${name}.sol compiles to: run npm run contracts`)
    process.exitCode = 1
  }
}
