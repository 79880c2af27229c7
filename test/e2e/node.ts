/** A node in front of the chain that can fail. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

export async function startNode(upstream: string) {
  const node = {
    mode: 'well' as 'well' | 'dead' | 'lags' | 'limits' | 'babbles',
    url: '',
    stop: async () => {},
  }
  const server = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    switch (node.mode) {
      case 'dead':
        request.socket.destroy()
        return
      case 'limits':
        response.writeHead(429).end()
        return
      case 'babbles':
        response.end('<html>')
        return
    }
    // A node that lags answers as of the first blocks: nothing has been used there.
    if (node.mode === 'lags') body = body.replaceAll('"latest"', '"0x3"')
    const answer = await fetch(upstream, {
      method: 'POST',
      body,
      headers: { 'content-type': 'application/json' },
    })
    response.end(await answer.text())
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  node.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  node.stop = async () => {
    server.closeAllConnections()
    await new Promise(resolve => server.close(resolve))
  }
  return node
}
