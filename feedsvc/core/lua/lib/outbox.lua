-- Outboxes: packed lists that are never cold. What the last outbox lets go is gone for good.
-- Needs packed.lua and clock.lua.

-- A tombstone lasts for two of these: what was let go in this period or in the one before has its tombstone still.
local PERIOD_MS = RETIRED_MS / 2

-- What retention took of an actor's activities that were in no outbox of the actor, as the greatest ids by when the
-- last outbox let them go: {period, longer ago than a tombstone is sure to last, in the period before, in this period}
local function retired_of(actor)
  local period = math.floor(clock_ms() / PERIOD_MS)
  local known = redis.call('HGET', RETIRED, actor)
  if not known then return {period, '0', '0', '0'} end
  local at, old, before, latest = known:match('(%d+) (%d+) (%d+) (%d+)')
  local passed = period - at
  if passed <= 0 then return {at, old, before, latest} end
  if before > old then old = before end
  if passed == 1 then return {period, old, latest, '0'} end
  return {period, latest > old and latest or old, '0', '0'}
end

-- The name of an activity's external id record, '' if it has none, by the header of its frame; see wire.py.
local function external_name(frame)
  local header, actor, rest = struct.unpack('>BHH', frame, 3)
  if actor == 0 then return '' end
  -- A field is a tag, the length of a text in one byte, or two from 128 on, and the text.
  local function text(first, last) return frame:sub(header + first + (last - first < 130 and 3 or 4), header + last) end
  return text(actor, rest) .. '\0' .. text(0, actor)
end

-- An outbox let an activity go whose body is in this shard: without another holder the body goes too. The bare
-- tombstone that is left outlives whatever may still hold the id.
local function release_body(id, outbox)
  local holders, author = key(HOLDERS, id), nil
  redis.call('SREM', holders, outbox)
  local left = redis.call('SCARD', holders)
  if left > 1 then return end
  if left == 1 then
    author = redis.call('SRANDMEMBER', holders)
    if author:byte() ~= 1 then return end
  end
  local frame = redis.call('GET', key(ACTIVITY, id))
  if not frame or frame == '' then return end
  if author then
    author = author:sub(2)
    local retired = retired_of(author)
    if id > retired[4] then
      retired[4] = id
      redis.call('HSET', RETIRED, author, table.concat(retired, ' '))
    end
  end
  local external = external_name(frame)
  redis.call('SET', key(ACTIVITY, id), '', 'PX', RETIRED_MS)
  redis.call('DEL', holders)
  if external ~= '' then redis.call('PEXPIRE', key(EXTERNAL, external), RETIRED_MS) end
end

local function let_go(outbox, id)
  if redis.call('EXISTS', key(ACTIVITY, id)) == 1 then
    release_body(id, outbox)
  else
    redis.call('RPUSH', LET_GO, id .. ' ' .. outbox)
  end
end

-- Inserts an id into an outbox and lets go what is over the cap, which becomes the floor. `newest`: the id is greater
-- than all others. Says whether the outbox holds the id now.
local function outbox_insert(entity, id, newest)
  local list = key(OUTBOX, entity)
  local outcome, _, length = (newest and packed_append_newest or packed_insert)(list, id, OUTBOX_CAP, math.huge)
  if outcome == COLD then length = redis.call('RPUSH', list, '0', id) end
  if outcome == BELOW then let_go(entity, id) end
  local floor = outcome == BELOW and id or '0'
  for _ = 1, math.min((length or redis.call('LLEN', list)) - 1 - OUTBOX_CAP, 100) do
    redis.call('LPOP', list)
    floor = redis.call('LINDEX', list, '0')
    let_go(entity, floor)
  end
  return floor < id
end
