import { NextResponse } from 'next/server'

/** What is sold. Whoever comes here has paid: middleware.ts sees to that. */
export async function GET() {
  return NextResponse.json({ weather: 'sunny' })
}
