/** Buyers, each with the client that he has, unchanged. */
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import { registerExactEvmScheme } from '@x402/evm/exact/client'
import { x402Client } from '@x402/fetch'
import { createBuyer, type SignedPayment } from '../bed/buyer.ts'
import type { Chain } from '../bed/chain.ts'
import { callTool, requestedPayment } from '../bed/mcp.ts'
import { price } from '../bed/seller.ts'
import { load } from './packages.ts'

/** Makes one call that is paid for, and returns what the buyer saw: a status, or how the tool answered. */
export interface BuyingClient {
  buy(url: string, signal?: AbortSignal): Promise<string>
  close?(): Promise<void>
}

const delivered = '200'
/** Milliseconds after which a client of MCP gives up a call, as it does not notice that its connection has ended. */
const toolTimeoutMs = 6_000
/** Each buyer can pay this many times. */
const balance = price * 20n

function paymentClient(chain: Chain, signer: Awaited<ReturnType<Chain['newAccount']>>): x402Client {
  const client = new x402Client().setSpendControls({
    allowedAssets: [{ network: chain.network, asset: chain.token.address }],
  })
  registerExactEvmScheme(client, { signer })
  return client
}

async function fundedAccount(chain: Chain) {
  const account = await chain.newAccount()
  await chain.mint(account.address, balance)
  return account
}

export const clients = {
  async '@x402/fetch'(chain: Chain): Promise<BuyingClient> {
    const buyer = await createBuyer(chain, balance)
    return {
      buy: async (url, signal) => `${(await buyer.buy(url, signal ? { signal } : {})).status}`,
    }
  },

  async '@x402/axios'(chain: Chain): Promise<BuyingClient> {
    const [{ wrapAxiosWithPayment }, { default: axios }] = await Promise.all([
      load('@x402/axios'),
      load('axios'),
    ])
    const client = paymentClient(chain, await fundedAccount(chain))
    const paying = wrapAxiosWithPayment(axios.create({}), client)
    return {
      buy: async (url, signal) => {
        try {
          return `${(await paying.get(url, { signal })).status}`
        } catch (error) {
          const { response } = error as { response?: { status: number } }
          if (response === undefined) throw error
          return `${response.status}`
        }
      },
    }
  },

  /** Signs once, and presents that payment until it gets what it paid for. */
  async 'repeats the payment'(chain: Chain): Promise<BuyingClient> {
    const buyer = await createBuyer(chain, balance)
    let signed: SignedPayment | undefined
    return {
      async buy(url, signal) {
        signed ??= await buyer.sign(url)
        const response = await fetch(url, { headers: signed.headers, ...(signal && { signal }) })
        await response.text()
        return `${response.status}`
      },
    }
  },

  async 'x402-fetch (version 1)'(chain: Chain): Promise<BuyingClient> {
    const { wrapFetchWithPayment } = await load('x402-fetch')
    const pay = wrapFetchWithPayment(fetch, chain.walletOf(await fundedAccount(chain)))
    return {
      async buy(url, signal) {
        const response = await pay(url, signal ? { signal } : {})
        await response.text()
        return `${response.status}`
      },
    }
  },

  /** As upstream's client for MCP: pays a result that asks for it, once for each call. */
  async MCP(chain: Chain): Promise<BuyingClient> {
    const payments = paymentClient(chain, await fundedAccount(chain))
    let client: Client | undefined
    async function connect(url: string): Promise<Client> {
      const opened = new Client({ name: 'buyer', version: '1.0.0' })
      await opened.connect(new StreamableHTTPClientTransport(new URL(url)) as Transport)
      client = opened
      return opened
    }
    return {
      async buy(url, signal) {
        const options = { timeout: toolTimeoutMs, ...(signal && { signal }) }
        const agent = client ?? (await connect(url))
        try {
          const required = requestedPayment(await callTool(agent, undefined, options))
          if (required === undefined) return 'tool error'
          const result = await callTool(agent, await payments.createPaymentPayload(required), options)
          if (requestedPayment(result) !== undefined) return '402'
          return result.isError === true ? 'tool error' : delivered
        } catch (error) {
          // Who cancels a call keeps his connection; what else fails may have ended it.
          if (!signal?.aborted) {
            client = undefined
            await agent.close()
          }
          throw error
        }
      },
      async close() {
        await client?.close()
      },
    }
  },
} satisfies Record<string, (chain: Chain) => Promise<BuyingClient>>

export type ClientName = keyof typeof clients

export function isDelivered(seen: string | undefined): boolean {
  return seen === delivered
}
