/** The bed that all runtimes share, and an endpoint by which a case inside any of them can command it. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { HTTPFacilitatorClient } from '@x402/core/server'
import type { Address, Hex } from 'viem'
import { createBuyer } from '../bed/buyer.ts'
import { startChain } from '../bed/chain.ts'
import {
  type FacilitatorOperation,
  type Fault,
  startFacilitator,
  type TestFacilitator,
} from '../bed/facilitator.ts'
import { startSeller } from '../bed/seller.ts'
import type { Payment, Place } from './bed.ts'

export interface Host {
  readonly place: Place
  stop(): Promise<void>
}

interface Command {
  readonly index: number
  readonly faults: Faults
  readonly address: Address
  readonly payer: Address
  readonly nonce: Hex
}

type Faults = Partial<Record<FacilitatorOperation, Fault>>

function once(faults: Faults): Faults {
  const left = new Map(Object.entries(faults))
  const draw = (operation: string): Fault => ({
    kind: 'draw',
    draw: () => {
      const fault = left.get(operation)
      left.delete(operation)
      return fault
    },
  })
  return Object.fromEntries([...left.keys()].map(operation => [operation, draw(operation)]))
}

export async function startHost(): Promise<Host> {
  const chain = await startChain()
  const start = (id: string) => startFacilitator({ chain, id })
  const pool = await Promise.all([start('first'), start('second')])
  // The offers must not depend on facilitators that are told to misbehave.
  const offering = await start('offering')
  const [buyer, seller] = await Promise.all([
    createBuyer(chain),
    startSeller(chain, new HTTPFacilitatorClient({ url: offering.url })),
  ])
  const dead = new Set<TestFacilitator>()

  async function revive(facilitator: TestFacilitator): Promise<void> {
    if (dead.delete(facilitator)) await facilitator.revive()
  }

  async function pay(): Promise<Payment> {
    const { payload, nonce } = await buyer.sign(seller.url)
    const requirements = payload.accepted
    const { payTo, amount } = requirements
    return { payload, requirements, payer: buyer.address, payTo, nonce, amount }
  }

  async function reset(): Promise<void> {
    for (const facilitator of pool) {
      facilitator.heal()
      Object.assign(facilitator.calls, { verify: 0, settle: 0, supported: 0, list: 0 })
      await revive(facilitator)
    }
  }

  async function obey(path: string, command: Command): Promise<unknown> {
    const facilitator = () => {
      const one = pool[command.index]
      if (one === undefined) throw new Error(`there is no facilitator ${command.index}`)
      return one
    }
    switch (path) {
      case '/reset':
        return reset()
      case '/fault':
        return facilitator().fault(command.faults)
      case '/fault-once':
        return facilitator().fault(once(command.faults))
      case '/heal':
        return facilitator().heal()
      case '/kill':
        if (dead.has(facilitator())) return
        dead.add(facilitator())
        return facilitator().kill()
      case '/revive':
        return revive(facilitator())
      case '/calls':
        return facilitator().calls
      case '/payment':
        return pay()
      case '/balance':
        return `${await chain.balanceOf(command.address)}`
      case '/spent':
        return chain.isSpent(command.payer, command.nonce)
      default:
        throw new Error('there is no such command')
    }
  }

  const server = createServer(async (request, response) => {
    response.setHeader('content-type', 'application/json')
    try {
      let body = ''
      for await (const chunk of request) body += chunk
      const answer = await obey(request.url ?? '', JSON.parse(body))
      response.end(JSON.stringify(answer ?? null))
    } catch (error) {
      response.writeHead(500).end(JSON.stringify({ error: String(error) }))
    }
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))

  return {
    place: {
      controlUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      rpcUrl: chain.rpcUrl,
      chainId: chain.chainId,
      network: chain.network,
      facilitators: pool.map(({ id, url }) => ({ id, url })),
    },
    async stop() {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
      await Promise.all([seller.stop(), ...[...pool, offering].map(one => one.stop())])
      chain.stop()
    },
  }
}
