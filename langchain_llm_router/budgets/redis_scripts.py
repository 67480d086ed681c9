"""The Lua scripts of `RedisLedger`; Redis runs each of them as one step.

An account is a hash: `settled`, `reserved`, and for every reservation a field `h:PROCESS.NUMBER`
with its amount. A process renews its *lease*, a key that expires; what a process without a lease
had reserved is released once another one needs it.

Redis can lose data: killed without an append-only file, flushed, replaced by a replica that lagged
behind. The key `store` has the run of the server and an *epoch*, which changes with every loss that
is noticed. A process that sees another epoch than it knows restores what it remembers, and until
all running processes have had the time for that, nothing is granted or settled (`recovering`).
`awake` is missing after a time without any process, or without Redis, in which leases may have
expired although their processes live: then these get the time to renew them.
"""

from __future__ import annotations

__all__ = ["BEAT", "RESERVE", "RESTORE", "SETTLE"]

# KEYS: store, recovering, awake, the process's lease. ARGV: the known epoch, a new one,
# milliseconds of a lease, milliseconds for recovering.
_LOOK = """
local function recover(why)
  redis.call('SET', KEYS[2], why, 'PX', ARGV[4])
end
-- Not '-' .. amount: Redis refuses '-0'.
local function decrease(key, field, amount)
  redis.call('HINCRBY', key, field, string.format('%.0f', 0 - tonumber(amount)))
end
local run = ''
local info = redis.pcall('INFO', 'server')
if type(info) == 'string' then run = string.match(info, 'run_id:(%w+)') or '' end
local store = redis.call('HMGET', KEYS[1], 'epoch', 'run')
local epoch = store[1]
if not epoch or store[2] ~= run then
  epoch = ARGV[2]
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'run', run)
  recover('lost')
elseif ARGV[1] ~= '' and ARGV[1] ~= epoch then
  recover('lost')
elseif redis.call('EXISTS', KEYS[3]) == 0 and redis.call('EXISTS', KEYS[2]) == 0 then
  recover('late')
end
redis.call('SET', KEYS[3], '1', 'PX', math.floor(ARGV[3] / 2))
redis.call('SET', KEYS[4], '1', 'PX', ARGV[3])
local state = redis.call('GET', KEYS[2])
"""

BEAT = _LOOK + "return {epoch}"
"""Renews the lease, and returns the epoch."""

# Further KEYS: marker of a settled reservation, the accounts. Further ARGV: want, least, the
# reservation, prefix of the leases' keys, whether unsettled amounts are charged, then for each
# account: limit, largest settled amount read so far, seconds to live.
RESERVE = (
    _LOOK
    + """
local answer = {'-1', epoch}
local lost = false
local function balance(key)
  local pair = redis.call('HMGET', key, 'settled', 'reserved')
  return tonumber(pair[1] or '0'), tonumber(pair[2] or '0')
end
for i = 6, #KEYS do
  local seen = tonumber(ARGV[3 * i - 7])
  local settled = balance(KEYS[i])
  if seen > settled then
    redis.call('HSET', KEYS[i], 'settled', string.format('%.0f', seen))
    lost = true
  end
end
if lost and ARGV[1] == epoch then
  epoch = ARGV[2]
  answer[2] = epoch
  redis.call('HSET', KEYS[1], 'epoch', epoch)
  recover('lost')
  state = 'lost'
end
local function grant()
  local granted = tonumber(ARGV[5])
  for i = 6, #KEYS do
    local settled, reserved = balance(KEYS[i])
    answer[2 * i - 9] = string.format('%.0f', settled)
    answer[2 * i - 8] = string.format('%.0f', reserved)
    granted = math.min(granted, math.max(0, tonumber(ARGV[3 * i - 8]) - settled - reserved))
  end
  return granted
end
local alive = {}
local function release(key)
  local fields = redis.call('HGETALL', key)
  for j = 1, #fields, 2 do
    local process = string.match(fields[j], '^h:([^.]+)')
    if process and alive[process] == nil then
      alive[process] = redis.call('EXISTS', ARGV[8] .. process) == 1
    end
    if process and not alive[process] then
      redis.call('HDEL', key, fields[j])
      decrease(key, 'reserved', fields[j + 1])
      if ARGV[9] == 'charge' then redis.call('HINCRBY', key, 'settled', fields[j + 1]) end
    end
  end
end
local granted = grant()
if granted < tonumber(ARGV[5]) and not state then
  for i = 6, #KEYS do release(KEYS[i]) end
  granted = grant()
end
if state == 'lost' or (state and granted < tonumber(ARGV[6])) then
  answer[1] = '-2'
  return answer
end
if granted < tonumber(ARGV[6]) or redis.call('EXISTS', KEYS[5]) == 1 then return answer end
answer[1] = string.format('%.0f', granted)
for i = 6, #KEYS do
  redis.call('HSET', KEYS[i], 'h:' .. ARGV[7], answer[1])
  redis.call('HINCRBY', KEYS[i], 'reserved', answer[1])
  local ttl = tonumber(ARGV[3 * i - 6])
  if ttl > 0 then redis.call('EXPIRE', KEYS[i], ttl) end
end
return answer
"""
)
"""Reserves in all accounts or in none. Returns the granted amount (-1: too little is left, -2: ask
again after recovering), the epoch, and for each account the settled and reserved amounts before."""

# Further KEYS: marker of a settled reservation, the accounts. Further ARGV: spent, the reservation,
# then for each account: largest settled amount read so far, seconds to live, and the reservation of
# the escrow that the amount was spent from (or nothing). A command that timed out may have run: the
# marker keeps a repeated one from being booked twice.
SETTLE = (
    _LOOK
    + """
if state == 'lost' then return {'-2', epoch} end
local answer = {'0', epoch}
local first = redis.call('SET', KEYS[5], '1', 'NX', 'EX', 600)
for i = 6, #KEYS do
  local key = KEYS[i]
  -- Also when repeated: its process may have restored what it did not know as settled.
  local field = 'h:' .. ARGV[6]
  local held = redis.call('HGET', key, field)
  if held then
    redis.call('HDEL', key, field)
    decrease(key, 'reserved', held)
  end
  if first then
    local seen = tonumber(ARGV[3 * i - 11])
    if seen > tonumber(redis.call('HGET', key, 'settled') or '0') then
      redis.call('HSET', key, 'settled', string.format('%.0f', seen))
    end
    local escrow = 'h:' .. ARGV[3 * i - 9]
    local left = redis.call('HGET', key, escrow)
    if left then
      local taken = math.min(tonumber(left), tonumber(ARGV[5]))
      decrease(key, escrow, taken)
      decrease(key, 'reserved', taken)
    end
    redis.call('HINCRBY', key, 'settled', ARGV[5])
    local ttl = tonumber(ARGV[3 * i - 10])
    if ttl > 0 then redis.call('EXPIRE', key, ttl) end
  end
  local pair = redis.call('HMGET', key, 'settled', 'reserved')
  answer[2 * i - 9], answer[2 * i - 8] = pair[1] or '0', pair[2] or '0'
  -- An account in which nothing was spent is the same as none.
  if answer[2 * i - 9] == '0' and answer[2 * i - 8] == '0' then redis.call('DEL', key) end
end
return answer
"""
)
"""Books what was spent and releases the reservation. Returns 0 (-2: ask again after recovering),
the epoch, and for each account the settled and reserved amounts."""

RESTORE = """
local key, own = KEYS[1], 'h:' .. ARGV[1] .. '.'
local settled = tonumber(redis.call('HGET', key, 'settled') or '0')
if tonumber(ARGV[2]) > settled then redis.call('HSET', key, 'settled', ARGV[2]) end
local listed = {}
for i = 4, #ARGV, 2 do
  local field = 'h:' .. ARGV[i]
  listed[field] = true
  if ARGV[i + 1] ~= '' and redis.call('HSETNX', key, field, ARGV[i + 1]) == 1 then
    redis.call('HINCRBY', key, 'reserved', ARGV[i + 1])
  end
end
local fields = redis.call('HGETALL', key)
for j = 1, #fields, 2 do
  if string.sub(fields[j], 1, #own) == own and not listed[fields[j]] then
    redis.call('HDEL', key, fields[j])
    local amount = 0 - tonumber(fields[j + 1])
    redis.call('HINCRBY', key, 'reserved', string.format('%.0f', amount))
  end
end
if tonumber(ARGV[3]) > 0 and redis.call('EXISTS', key) == 1 then
  redis.call('EXPIRE', key, ARGV[3])
end
"""
"""Restores what a process remembers of one account. KEYS: the account. ARGV: the process, the
largest settled amount that it read, seconds to live, then its reservations and their amounts (an
empty one is about to be granted)."""
