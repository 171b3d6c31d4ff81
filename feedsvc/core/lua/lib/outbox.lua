-- Outboxes: packed lists that are never cold. What the last outbox lets go is gone for good.
-- Needs packed.lua.

-- An outbox let an activity go whose body is in this shard: without another holder the body goes too. The bare
-- tombstone that is left outlives whatever may still hold the id.
local function release_body(id, outbox)
  local frame = redis.call('GET', key(ACTIVITY, id))
  if not frame or frame == '' then return end
  local holders = key(HOLDERS, id)
  redis.call('SREM', holders, outbox)
  if redis.call('EXISTS', holders) == 1 then return end
  local external = frame:sub(3, 2 + struct.unpack('>H', frame))
  redis.call('SET', key(ACTIVITY, id), '', 'PX', RETIRED_MS)
  if external ~= '' then redis.call('PEXPIRE', key(EXTERNAL, external), RETIRED_MS) end
end

local function let_go(outbox, id)
  if redis.call('EXISTS', key(ACTIVITY, id)) == 1 then
    release_body(id, outbox)
  else
    redis.call('RPUSH', LET_GO, id .. ' ' .. outbox)
  end
end

-- Inserts an id into an outbox and lets go what is over the cap, which becomes the floor. Says whether the outbox
-- holds the id now.
local function outbox_insert(entity, id)
  local list = key(OUTBOX, entity)
  if redis.call('EXISTS', list) == 0 then redis.call('RPUSH', list, '0') end
  if packed_insert(list, id, OUTBOX_CAP, math.huge) == BELOW then let_go(entity, id) end
  local over = redis.call('LLEN', list) - 1 - OUTBOX_CAP
  for _ = 1, math.min(over, 100) do
    redis.call('LPOP', list)
    let_go(entity, redis.call('LINDEX', list, 0))
  end
  return redis.call('LINDEX', list, 0) < id
end
