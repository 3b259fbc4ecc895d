"""Counters in Redis: each step is one script, by the server's clock, so that all who share it count as one.

Every limit has a key of its own; those of a group share a hash tag. A window is a hash of slices by number, with their
sum (s), the oldest (o) and the newest (n); a bucket a hash of level (l) and time (t); slots are a sorted set of holders
by the end of their leases. Keys expire a minute after they have had nothing more to say. The arithmetic is that of
`core/limits.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from parley_server.core.limits import SLOT_WAIT
from parley_server.stores.counters import LEASE_MS, Decision, Grant, Level, Limit, fitted, new_holder
from parley_server.stores.leases import Leases
from parley_server.stores.redis.connection import Redis, Script

_MOMENT = 0.005
_AT_ONCE = 100  # calls that are settled in one step

_COMMON = """
local now, slack = tonumber(ARGV[1]), 60000
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local function window(key, per, width)
  local kept = redis.call('HMGET', key, 's', 'o', 'n')
  local used, oldest, newest = tonumber(kept[1]) or 0, tonumber(kept[2]), tonumber(kept[3])
  if newest and ((newest + 1) * width + per <= now or newest * width > now + per) then
    redis.call('DEL', key)
    return 0, nil, nil
  end
  local moved = oldest
  while oldest and oldest < newest do
    local amount = redis.call('HGET', key, oldest)
    if amount and (oldest + 1) * width + per > now then break end
    if amount then
      used = used - amount
      redis.call('HDEL', key, oldest)
    end
    oldest = oldest + 1
  end
  if moved ~= oldest then redis.call('HSET', key, 's', used, 'o', oldest) end
  return used, oldest, newest
end

local function bucket(key, amount, per, gain, step)
  local kept = redis.call('HMGET', key, 'l', 't')
  local level, at = tonumber(kept[1]) or amount * step, tonumber(kept[2]) or now
  if at > now + per then at = now end
  if now > at then
    level = math.min(level + (now - at) * gain, amount * step)
    at = now
  end
  return level, at
end

local function pour(key, amount, gain, step, level, at)
  redis.call('HSET', key, 'l', level, 't', at)
  redis.call('PEXPIRE', key, math.ceil((amount * step - level) / gain) + math.max(at - now, 0) + slack)
end

local function add(key, per, width, newest, oldest, used, cost)
  local number = math.max(math.floor(now / width), newest or 0)
  if cost > 0 then
    redis.call('HINCRBY', key, number, cost)
    redis.call('HSET', key, 's', used + cost, 'o', oldest or number, 'n', number)
    redis.call('PEXPIRE', key, (number + 1) * width + per - now + slack)
  end
  return number
end
"""

# now, lease, wait for a slot, number of calls; for each limit: way, amount, per, first, second;
# for each call: holder, cost of each limit
# -> calls let in, number of the limit refused, wait; for each limit: left, reset, mark
_TAKE = Script(
    _COMMON
    + """
local lease, slot_wait, calls, count = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), #KEYS
local limits = {}
for i = 1, count do
  local a = 4 + (i - 1) * 5
  local limit = {key = KEYS[i], way = ARGV[a + 1], amount = tonumber(ARGV[a + 2]), per = tonumber(ARGV[a + 3]),
                 first = tonumber(ARGV[a + 4]), second = tonumber(ARGV[a + 5]), taken = 0, holders = {}}
  if limit.way == 'window' then
    limit.used, limit.oldest, limit.newest = window(limit.key, limit.per, limit.second)
    limit.left = limit.amount - limit.used
  elseif limit.way == 'bucket' then
    limit.level, limit.at = bucket(limit.key, limit.amount, limit.per, limit.first, limit.second)
    limit.left = limit.level / limit.second
  else
    redis.call('ZREMRANGEBYSCORE', limit.key, '-inf', now)
    limit.left = limit.amount - redis.call('ZCARD', limit.key)
  end
  limits[i] = limit
end

local function wait_of(limit, cost)
  if limit.way == 'bucket' then
    local units = (cost + limit.taken) * limit.second - limit.level
    return units > 0 and math.ceil(units / limit.first) + math.max(limit.at - now, 0) or 0
  end
  local missing = cost - (limit.left - limit.taken)
  if missing <= 0 then return 0 end
  if limit.way == 'slots' then return slot_wait end
  local number = math.max(math.floor(now / limit.second), limit.newest or 0)
  for slice = limit.oldest or number, limit.newest or number - 1 do
    missing = missing - (tonumber(redis.call('HGET', limit.key, slice)) or 0)
    if slice == number then missing = missing - limit.taken end
    if missing <= 0 then return (slice + 1) * limit.second + limit.per - now end
  end
  return (number + 1) * limit.second + limit.per - now
end

local granted, refused, longest = 0, 0, 0
for call = 1, calls do
  local c = 4 + count * 5 + (call - 1) * (count + 1) + 1
  for i = 1, count do
    local wait = wait_of(limits[i], tonumber(ARGV[c + i]))
    if wait > longest then refused, longest = i, wait end
  end
  if refused > 0 then break end
  for i = 1, count do
    local limit, cost = limits[i], tonumber(ARGV[c + i])
    limit.taken = limit.taken + cost
    if limit.way == 'slots' and cost > 0 then table.insert(limit.holders, ARGV[c]) end
  end
  granted = call
end

local answer = {granted, refused, longest}
for i = 1, count do
  local limit, reset, mark = limits[i], 0, 0
  local left = math.floor(limit.left) - limit.taken
  if limit.way == 'window' then
    mark = add(limit.key, limit.per, limit.second, limit.newest, limit.oldest, limit.used, limit.taken)
    local newest = limit.taken > 0 and mark or limit.newest
    if limit.used + limit.taken > 0 then reset = (newest + 1) * limit.second + limit.per - now end
  elseif limit.way == 'bucket' then
    local level = limit.level - limit.taken * limit.second
    if limit.taken > 0 then pour(limit.key, limit.amount, limit.first, limit.second, level, limit.at) end
    local missing = limit.amount * limit.second - level
    if missing > 0 then reset = math.ceil(missing / limit.first) + math.max(limit.at - now, 0) end
  else
    for _, holder in ipairs(limit.holders) do redis.call('ZADD', limit.key, now + lease, holder) end
    if #limit.holders > 0 then redis.call('PEXPIRE', limit.key, lease + slack) end
  end
  table.insert(answer, math.max(left, 0))
  table.insert(answer, reset)
  table.insert(answer, mark)
end
return answer
"""
)

# now, number of calls; for each limit: way, amount, per, first, second; for each call: holder, and for each limit its
# mark, and what was used beyond what was reserved
_SETTLE = Script(
    _COMMON
    + """
local calls, count = tonumber(ARGV[2]), #KEYS
for i = 1, count do
  local a, key = 2 + (i - 1) * 5, KEYS[i]
  local way, amount, per = ARGV[a + 1], tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
  local first, second = tonumber(ARGV[a + 4]), tonumber(ARGV[a + 5])
  for call = 1, calls do
    local c = 2 + count * 5 + (call - 1) * (count * 2 + 1) + 1
    local mark, more = ARGV[c + i * 2 - 1], tonumber(ARGV[c + i * 2])
    if way == 'slots' then
      redis.call('ZREM', key, ARGV[c])
    elseif way == 'bucket' and more ~= 0 then
      local level, at = bucket(key, amount, per, first, second)
      pour(key, amount, first, second, math.min(level - more * second, amount * second), at)
    elseif way == 'window' and more ~= 0 then
      local used, oldest, newest = window(key, per, second)
      if more > 0 then
        add(key, per, second, newest, oldest, used, more)
      else
        local there = tonumber(redis.call('HGET', key, mark))
        if there then
          local back = math.min(-more, there)
          redis.call('HINCRBY', key, mark, -back)
          redis.call('HSET', key, 's', used - back)
        end
      end
    end
  end
end
return 0
"""
)

# now, lease, then holders
_RENEW = Script(
    _COMMON
    + """
for i = 3, #ARGV do redis.call('ZADD', KEYS[1], 'XX', now + ARGV[2], ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], ARGV[2] + slack)
return 0
"""
)


class RedisCounters:
    """Counters that all gateways share which know the server. `now`: for tests, in ms; the server's clock if 0.

    `moment`: seconds that settling may wait for more of it.
    """

    def __init__(self, redis: Redis, moment: float = _MOMENT) -> None:
        self.now = 0
        self._moment = moment
        self._redis = redis
        self._leases = Leases(self._renew)
        self._over: dict[tuple[str, ...], list[tuple[Grant, Sequence[int]]]] = {}  # to be told, by their keys

    async def take(self, group: str, limits: Sequence[Limit], calls: Sequence[Sequence[int]]) -> Decision:
        return await self._leases.taking(self._take(group, limits, fitted(limits, calls)), self.settle)

    def settle(self, grant: Grant, used: Sequence[int]) -> None:
        keys = tuple(self._keys(grant.group, grant.limits))
        if self._leases.end(grant, keys, used):
            if not self._over:
                self._leases.keep(asyncio.ensure_future(self._tell()))
            self._over.setdefault(keys, []).append((grant, used))

    async def told(self) -> None:
        await self._leases.told()

    async def aclose(self) -> None:
        await self._leases.aclose()

    async def _take(self, group: str, limits: Sequence[Limit], calls: Sequence[Sequence[int]]) -> Decision:
        holders = [new_holder() for _ in calls]
        arguments: list[str | int] = [self.now, LEASE_MS, SLOT_WAIT, len(calls)]
        for limit in limits:
            arguments += (limit.rule.way, limit.rule.amount, limit.rule.per, *limit.rule.parameters())
        for holder, call in zip(holders, calls, strict=True):
            arguments += (holder, *call)
        keys = self._keys(group, limits)
        granted, refused, wait, *rest = await self._redis.run(_TAKE, keys, arguments)
        marks = rest[2::3]
        grants = [Grant(group, limits, calls[n], marks, holders[n]) for n in range(granted)]
        for grant in grants:
            self._leases.begin(grant, keys)
        levels = [Level(left, reset / 1000) for left, reset in zip(rest[::3], rest[1::3], strict=True)]
        return Decision(grants, levels, refused - 1, wait / 1000)

    async def _tell(self) -> None:
        """Settle all that is over, a moment after the first: nobody waits for it, and together it costs less."""
        await asyncio.sleep(self._moment)
        pending, self._over = self._over, {}
        pieces = [
            (keys, over[n : n + _AT_ONCE]) for keys, over in pending.items() for n in range(0, len(over), _AT_ONCE)
        ]
        for done in await asyncio.gather(*(self._settle(*piece) for piece in pieces), return_exceptions=True):
            if isinstance(done, BaseException):
                raise done

    async def _settle(self, keys: Sequence[str], over: Sequence[tuple[Grant, Sequence[int]]]) -> None:
        arguments: list[str | int] = [self.now, len(over)]
        for limit in over[0][0].limits:
            arguments += (limit.rule.way, limit.rule.amount, limit.rule.per, *limit.rule.parameters())
        for grant, used in over:
            arguments.append(grant.holder)
            for mark, reserved, spent in zip(grant.marks, grant.costs, used, strict=True):
                arguments += (mark, spent - reserved)
        await self._redis.run(_SETTLE, keys, arguments)

    def _keys(self, group: str, limits: Sequence[Limit]) -> list[str]:
        return [self._redis.key(f"{{{group}}}:{limit.key}") for limit in limits]

    async def _renew(self, key: str, holders: Sequence[str]) -> None:
        await self._redis.run(_RENEW, [key], [self.now, LEASE_MS, *holders])
