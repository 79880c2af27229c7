/** What Upstash's HTTP interface answers, in front of a real Redis. */
import { createServer } from 'node:http'
import { createClient } from 'redis'

export interface Upstash {
  readonly url: string
  readonly token: string
  [Symbol.asyncDispose](): Promise<void>
}

/** @param redisUrl of the Redis behind it */
export async function startUpstash(redisUrl: string): Promise<Upstash> {
  const token = 'token-of-upstash'
  const redis = await createClient({ url: redisUrl }).connect()
  const server = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    const isBase64 = request.headers['upstash-encoding'] === 'base64'
    const answer = (status: number, content: object) => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(content))
    }
    if (request.headers.authorization !== `Bearer ${token}`) return answer(401, { error: 'Unauthorized' })
    const run = async (command: unknown[]) => {
      try {
        const result = await redis.sendCommand(command.map(String))
        return { result: isBase64 ? encoded(result) : result }
      } catch (error) {
        return { error: (error as Error).message }
      }
    }
    if (request.url === '/pipeline')
      return answer(200, await Promise.all((JSON.parse(body) as unknown[][]).map(run)))
    const content = await run(JSON.parse(body) as unknown[])
    answer('error' in content ? 400 : 200, content)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  return {
    url: `http://127.0.0.1:${port}`,
    token,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
      redis.destroy()
    },
  }
}

/** Texts in base64, as deep as they are. */
function encoded(result: unknown): unknown {
  if (typeof result === 'string') return Buffer.from(result).toString('base64')
  return Array.isArray(result) ? result.map(encoded) : result
}
