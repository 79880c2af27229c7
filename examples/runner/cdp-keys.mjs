// Coinbase CDP's own SDK, with a key made up here: does it sign what `cdpAuthHeaders` asks of it?
import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { cdpAuthHeaders } from 'x402-facilitator-aggregator/env'

const { privateKey } = generateKeyPairSync('ed25519')
const { d, x } = privateKey.export({ format: 'jwk' })
// CDP's form of such a key: seed and public key together.
const secret = Buffer.concat([Buffer.from(d, 'base64url'), Buffer.from(x, 'base64url')])
const headers = await cdpAuthHeaders({ apiKeyId: 'a-key', apiKeySecret: secret.toString('base64') })()
const requests = {
  verify: 'POST api.cdp.coinbase.com/platform/v2/x402/verify',
  settle: 'POST api.cdp.coinbase.com/platform/v2/x402/settle',
  supported: 'GET api.cdp.coinbase.com/platform/v2/x402/supported',
  list: 'GET api.cdp.coinbase.com/platform/v2/x402/discovery/resources',
}
for (const [operation, request] of Object.entries(requests)) {
  const claims = headers[operation].Authorization.split('.')[1]
  assert(Buffer.from(claims, 'base64url').toString().includes(JSON.stringify(request)), operation)
}
