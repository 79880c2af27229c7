/** Stands in for Coinbase CDP's SDK: a token that says what it was made for. */
export async function generateJwt(request: Record<string, string>): Promise<string> {
  return `${request.apiKeyId} ${request.requestMethod} ${request.requestHost}${request.requestPath}`
}
