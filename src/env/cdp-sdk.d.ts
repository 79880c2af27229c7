/** The part of `@coinbase/cdp-sdk` that is used: an optional peer, which is not installed here. */
declare module '@coinbase/cdp-sdk/auth' {
  export function generateJwt(options: {
    apiKeyId: string
    apiKeySecret: string
    requestMethod: string
    requestHost: string
    requestPath: string
  }): Promise<string>
}
