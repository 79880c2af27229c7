/** A seller whose last facilitator is itself: with a key that holds gas, it settles when all others are dead. */
import { x402Facilitator } from '@x402/core/facilitator'
import { x402ResourceServer } from '@x402/core/server'
import { toFacilitatorEvmSigner } from '@x402/evm'
import { registerExactEvmScheme } from '@x402/evm/exact/facilitator'
import { ExactEvmScheme } from '@x402/evm/exact/server'
import { paymentMiddleware } from '@x402/express'
import express from 'express'
import { createWalletClient, http, publicActions } from 'viem'
import { nonceManager, privateKeyToAccount } from 'viem/accounts'
import { baseSepolia } from 'viem/chains'
import { FacilitatorAggregator } from 'x402-facilitator-aggregator'
import { evmSettlementProbe } from 'x402-facilitator-aggregator/evm'

const { PAY_TO: payTo, GAS_KEY: gasKey, PORT = '4021', RPC_URL_84532: rpcUrl } = process.env
if (!payTo) throw new Error('Set PAY_TO to the address that gets the money.')
if (!gasKey) throw new Error('Set GAS_KEY to the private key (0x…) of an account with a little ether.')
const network = 'eip155:84532' // Base Sepolia

// The nonce manager lets payments that come together each have a transaction of their own.
const account = privateKeyToAccount(gasKey as `0x${string}`, { nonceManager })
const wallet = createWalletClient({ account, chain: baseSepolia, transport: http(rpcUrl) }).extend(
  publicActions,
)
const selfHosted = registerExactEvmScheme(new x402Facilitator(), {
  signer: toFacilitatorEvmSigner({
    ...wallet,
    address: account.address,
    // Upstream's types of these are wider than viem's.
    verifyTypedData: args => wallet.verifyTypedData(args as Parameters<typeof wallet.verifyTypedData>[0]),
    writeContract: args => wallet.writeContract(args as Parameters<typeof wallet.writeContract>[0]),
  }),
  networks: network,
})

const aggregator = new FacilitatorAggregator({
  facilitators: [
    { id: 'first', url: process.env.FACILITATOR_1_URL ?? 'https://facilitator.x402.rs' },
    { id: 'second', url: process.env.FACILITATOR_2_URL ?? 'https://x402.org/facilitator' },
    { id: 'self-hosted', client: selfHosted },
  ],
  settlement: {
    probes: [evmSettlementProbe({ [network]: { rpcUrl: rpcUrl ?? 'https://sepolia.base.org' } })],
  },
})
const resourceServer = new x402ResourceServer(aggregator).register(network, new ExactEvmScheme())

const app = express()
app.use(
  paymentMiddleware(
    { 'GET /weather': { accepts: { scheme: 'exact', network, payTo, price: '$0.01' } } },
    resourceServer,
  ),
)
app.get('/weather', (_request, response) => {
  response.json({ weather: 'sunny' })
})

const server = app.listen(Number(PORT), error => {
  if (error) throw error
  console.log(`listening on http://localhost:${PORT}`)
})
process.once('SIGTERM', () => server.close(() => aggregator.stop()))
