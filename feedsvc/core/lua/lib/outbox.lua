-- include: clock packed
-- Outboxes: packed lists that are never cold. An activity that the last outbox trims is gone for
-- good.

-- A tombstone lasts for two periods: an activity whose last outbox trimmed it in this period or in
-- the period before still has its tombstone.
local PERIOD_MS = TOMBSTONE_MS / 2

-- Return the greatest ids that retention took of an actor's activities that never were in the
-- actor's own outbox, by the time when the last outbox trimmed them. The result is {period,
-- greatest id from before the last two periods, of the period before, of this period}.
local function retired_of(actor)
  local period = math.floor(clock_ms() / PERIOD_MS)
  local retired = redis.call('HGET', RETIRED, actor)
  if not retired then return {period, '0', '0', '0'} end
  local last_period, old, before, latest = retired:match('(%d+) (%d+) (%d+) (%d+)')
  local passed = period - last_period
  if passed <= 0 then return {last_period, old, before, latest} end
  if before > old then old = before end
  if passed == 1 then return {period, old, latest, '0'} end
  return {period, latest > old and latest or old, '0', '0'}
end

-- Return the name of an activity's external id record, '' if there is none, by the header of the
-- activity's frame; see wire.py.
local function external_name(frame)
  local header, actor, next_field = struct.unpack('>BHH', frame, 3)
  if actor == 0 then return '' end
  -- A field is a tag, the length of a text in one byte, or two from 128 on, and the text.
  local function text(first, last)
    return frame:sub(header + first + (last - first < 130 and 3 or 4), header + last)
  end
  return text(actor, next_field) .. '\0' .. text(0, actor)
end

-- Take an outbox from the holders of an activity whose body is in this shard. Without another
-- holder the body becomes a tombstone, which outlives all lists that may still hold the id.
local function release_body(id, outbox)
  local holders, author = key(HOLDERS, id), nil
  redis.call('SREM', holders, outbox)
  local remaining = redis.call('SCARD', holders)
  if remaining > 1 then return end
  if remaining == 1 then
    -- The last holder is the actor, if \1 is before it: its own outbox never held the activity.
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
  redis.call('SET', key(ACTIVITY, id), '', 'PX', TOMBSTONE_MS)
  redis.call('DEL', holders)
  if external ~= '' then redis.call('PEXPIRE', key(EXTERNAL, external), TOMBSTONE_MS) end
end

-- Release an activity that an outbox has trimmed. A note goes to the shard of the body if the body
-- is in another shard.
local function outbox_release(outbox, id)
  if redis.call('EXISTS', key(ACTIVITY, id)) == 1 then
    release_body(id, outbox)
  else
    redis.call('RPUSH', TRIM_NOTES, id .. ' ' .. outbox)
  end
end

-- Insert an id into an outbox, and release the ids above the cap; the last of them becomes the
-- floor. `is_newest`: the id is greater than all others. Return whether the outbox holds the id
-- now.
local function outbox_insert(entity, id, is_newest)
  local list = key(OUTBOX, entity)
  local insert = is_newest and packed_append_newest or packed_insert
  local outcome, _, length = insert(list, id, OUTBOX_CAP, math.huge)
  if outcome == COLD then length = redis.call('RPUSH', list, '0', id) end
  if outcome == BELOW then outbox_release(entity, id) end
  local floor = outcome == BELOW and id or '0'
  for _ = 1, math.min((length or redis.call('LLEN', list)) - 1 - OUTBOX_CAP, 100) do
    redis.call('LPOP', list)
    floor = redis.call('LINDEX', list, '0')
    outbox_release(entity, floor)
  end
  return floor < id
end
