/**
 * What Redis does in one go, as Lua: one script to each call of the ledger.
 *
 * The keys of one shard begin with its base, which has a hash tag: one script may use them all, in a cluster too. The base is
 * the one key that a script is given, so that a prefix of the client's own comes before all of them:
 *
 * | key                        | type       | what                                                                    |
 * | -------------------------- | ---------- | ----------------------------------------------------------------------- |
 * | `payment:<key>`            | hash       | the entry                                                               |
 * | `payments-by-time`         | sorted set | all of them, by their first claim (µs)                                  |
 * | `open-payments`            | sorted set | those that are settling, unresolved or undelivered, by their first claim |
 * | `forget-at`                | sorted set | those that are over, by the time (ms) at which they may be forgotten    |
 * | `open-payments-of:<group>` | sorted set | the open ones of one payer, payee, token and network                    |
 * | `answer:<name>`            | string     | an answer of the gateway                                                |
 * | `layout`                   | string     | the version of this table                                               |
 */
import { usableWithoutEndMs } from '../ledgers/settlement-row.ts'

/** To be raised when a process that knows the older layout must not use the newer one. */
export const layoutVersion = '1'

/** Milliseconds for which an entry is kept after its authorization can be used no more: clocks differ. */
const marginMs = 5 * 60_000
/** The same for what was not charged, at most: a facilitator will say the same again, and buyers can make any number. */
const unchargedMs = 24 * 60 * 60_000
/** Entries that are looked at in one go; Redis does nothing else meanwhile. */
const batch = 500

/** How the scripts see time, entries and their states. Only the clock of the server judges. */
const prelude = `
local base = KEYS[1]
local time = redis.call('TIME')
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local now = math.floor(now_us / 1000)

local function digits(number) return string.format('%.0f', number) end

local function read(key)
  local flat = redis.call('HGETALL', base .. 'payment:' .. key)
  if #flat == 0 then return nil end
  local entry = {}
  for i = 1, #flat, 2 do entry[flat[i]] = flat[i + 1] end
  return entry
end

-- The state as of now: nobody knows how far a claim came that has lapsed.
local function state_of(entry)
  local is_ended = entry.state_ends_ms and tonumber(entry.state_ends_ms) <= now
  if is_ended and entry.state == 'settling' then return 'unresolved' end
  if is_ended and entry.state == 'undelivered' then return 'settled' end
  return entry.state
end

local function milliseconds_left(entry)
  return entry.state_ends_ms and digits(math.max(0, tonumber(entry.state_ends_ms) - now)) or nil
end

local function view(entry)
  entry.state_now = state_of(entry)
  entry.left_ms = milliseconds_left(entry)
  return entry
end

local function forget(key, group)
  redis.call('DEL', base .. 'payment:' .. key)
  redis.call('ZREM', base .. 'payments-by-time', key)
  redis.call('ZREM', base .. 'open-payments', key)
  redis.call('ZREM', base .. 'forget-at', key)
  if group then redis.call('ZREM', base .. 'open-payments-of:' .. group, key) end
end
`

/** `group` is empty where nobody knows the payer. A claim also forgets some entries whose time has come. */
const claim = `
local key, fingerprint, claim, lease_ms, query, amount, amount_number, usable_until_ms, group = unpack(ARGV)
local name = base .. 'payment:' .. key

local entry = read(key)
local before = entry and state_of(entry)
-- Its first answer may have been lost.
local is_repeated = entry and entry.claim == claim and entry.state == 'settling'
local is_open = before == 'unresolved' or before == 'failed' or before == 'undelivered'
if entry and not is_repeated and not (is_open and entry.fingerprint == fingerprint) then
  return cjson.encode({ kind = 'refused', entry = view(entry) })
end

local changed = { claim = claim, state = 'settling', settlement = '{}', state_ends_ms = digits(now + tonumber(lease_ms)) }
if entry then
  if not is_repeated then
    changed.before_state = before
    changed.before_settlement = entry.settlement
    changed.before_left_ms = milliseconds_left(entry) or ''
  end
  local known = entry.amount_number
  local is_less = #amount_number < #known or (#amount_number == #known and amount_number < known)
  if amount_number ~= '' and known ~= '' and is_less then
    changed.amount = amount
    changed.amount_number = amount_number
  end
  redis.call('PERSIST', name)
  redis.call('ZREM', base .. 'forget-at', key)
else
  entry = {}
  changed.key = key
  changed.fingerprint = fingerprint
  changed.query = query
  changed.amount = amount
  changed.amount_number = amount_number
  changed.first_claimed_us = digits(now_us)
  changed.usable_until_ms =
    usable_until_ms ~= '' and usable_until_ms or digits(now + ${usableWithoutEndMs})
  if group ~= '' then changed.payer_group = group end
end

local flat = {}
for field, value in pairs(changed) do
  entry[field] = value
  flat[#flat + 1] = field
  flat[#flat + 1] = value
end
redis.call('HSET', name, unpack(flat))
redis.call('ZADD', base .. 'payments-by-time', entry.first_claimed_us, key)
redis.call('ZADD', base .. 'open-payments', entry.first_claimed_us, key)
if entry.payer_group then
  redis.call('ZADD', base .. 'open-payments-of:' .. entry.payer_group, entry.first_claimed_us, key)
end

for _, old in ipairs(redis.call('ZRANGEBYSCORE', base .. 'forget-at', '-inf', digits(now), 'LIMIT', 0, 4)) do
  forget(old, redis.call('HGET', base .. 'payment:' .. old, 'payer_group'))
end
return cjson.encode({ kind = 'claimed', entry = view(entry) })
`

/** `uncharged` is `1` where nothing was charged, and that is sure. */
const update = `
local key, claim, state, settlement, window_ms, is_uncharged, keep_ms = unpack(ARGV)
local name = base .. 'payment:' .. key
local open = base .. 'open-payments'

local entry = read(key)
if not entry or entry.claim ~= claim then return 0 end
local is_reply_lost = state == 'undelivered' and state_of(entry) == 'settled'
if entry.state ~= 'settling' and not is_reply_lost then
  -- Sent once more, as its answer was lost.
  return entry.settlement == settlement and 1 or 0
end

local ends_ms = window_ms ~= '' and now + tonumber(window_ms) or nil
redis.call('HSET', name, 'state', state, 'settlement', settlement)
if ends_ms then
  redis.call('HSET', name, 'state_ends_ms', digits(ends_ms))
else
  redis.call('HDEL', name, 'state_ends_ms')
end

local since = entry.first_claimed_us
local of_payer = entry.payer_group and base .. 'open-payments-of:' .. entry.payer_group
if state == 'unresolved' or state == 'undelivered' then
  redis.call('ZADD', open, since, key)
  if of_payer then redis.call('ZADD', of_payer, since, key) end
else
  redis.call('ZREM', open, key)
  if of_payer then redis.call('ZREM', of_payer, key) end
end

if state == 'unresolved' then return 1 end
local usable_until = tonumber(entry.usable_until_ms)
local forget_ms
if is_uncharged == '1' then
  forget_ms = math.min(usable_until, now + ${unchargedMs})
else
  forget_ms = math.max(usable_until, ends_ms or 0, tonumber(since) / 1000 + tonumber(keep_ms) - ${marginMs})
end
forget_ms = math.max(now, forget_ms) + ${marginMs}
redis.call('ZADD', base .. 'forget-at', digits(forget_ms), key)
if ends_ms then
  redis.call('PERSIST', name)
else
  redis.call('PEXPIREAT', name, digits(forget_ms))
end
return 1
`

const get = `
local entry = read(ARGV[1])
return entry and cjson.encode(view(entry))
`

/** Some of a shard's entries, and where to go on. */
const list = `
local index, min, max, limit, states = unpack(ARGV)
local found, position = {}, nil
local keys = redis.call('ZRANGEBYSCORE', base .. index, min, max, 'WITHSCORES', 'LIMIT', 0, ${batch})
for i = 1, #keys, 2 do
  position = keys[i + 1]
  local entry = read(keys[i])
  if entry and (states == '' or string.find(states, ',' .. state_of(entry) .. ',', 1, true)) then
    found[#found + 1] = view(entry)
  end
  if #found == tonumber(limit) then break end
end
local is_done = #keys < 2 * ${batch} and position == keys[#keys]
return cjson.encode({ entries = found, position = not is_done and digits(tonumber(position)) or nil })
`

const undelivered = `
local found = {}
for _, key in ipairs(redis.call('ZRANGE', base .. 'open-payments-of:' .. ARGV[1], 0, -1)) do
  local entry = read(key)
  local state = entry and state_of(entry)
  if state == 'unresolved' or state == 'undelivered' then found[#found + 1] = view(entry) end
end
return cjson.encode({ entries = found })
`

/** Forgets some of what is over, and says where to go on. */
const prune = `
local min, older_than_ms = unpack(ARGV)
local max = '(' .. digits(now_us - tonumber(older_than_ms) * 1000)
local keys = redis.call('ZRANGEBYSCORE', base .. 'payments-by-time', min, max, 'WITHSCORES', 'LIMIT', 0, ${batch})
local count = 0
for i = 1, #keys, 2 do
  local entry = read(keys[i])
  local state = entry and state_of(entry)
  local is_over = state == 'settled' or state == 'rejected' or state == 'failed'
  if not entry or (is_over and tonumber(entry.usable_until_ms) + ${marginMs} <= now) then
    forget(keys[i], entry and entry.payer_group)
    if entry then count = count + 1 end
  end
end
return cjson.encode({ count = count, position = #keys == 2 * ${batch} and digits(tonumber(keys[#keys])) or nil })
`

/** Behind a sign, so that no client takes it for something else than a text. */
const getAnswer = `
local answer = redis.call('GET', base .. 'answer:' .. ARGV[1])
return answer and '=' .. answer
`

const putAnswer = `
local name, answer, keep_ms = unpack(ARGV)
redis.call('SET', base .. 'answer:' .. name, answer, 'NX', 'PX', keep_ms)
return '=' .. redis.call('GET', base .. 'answer:' .. name)
`

/** What the server says of itself; where it refuses to, nothing. */
const inspect = `
redis.call('SET', base .. 'layout', ARGV[1], 'NX')
local function said(section, pattern)
  local info = redis.pcall('INFO', section)
  return type(info) == 'string' and string.match(info, pattern) or nil
end
return cjson.encode({
  layout = redis.call('GET', base .. 'layout'),
  policy = said('memory', 'maxmemory_policy:([%w-]+)'),
  appends = said('persistence', 'aof_enabled:(%d)'),
})
`

const sources = {
  claim,
  update,
  get,
  list,
  undelivered,
  prune,
  getAnswer,
  putAnswer,
  inspect,
}

export type ScriptName = keyof typeof sources

export function sourceOf(name: ScriptName): string {
  return `${prelude}${sources[name]}`
}
