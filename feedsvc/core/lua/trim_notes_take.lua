-- Hand out the notes that outboxes of some shards leave about trimmed activities of other shards.
-- One process at a time has the notes of a shard.
-- KEYS  the tags of the shards; one where each shard has a slot of its own
-- ARGV  a name for this call, most notes to hand out, milliseconds for which other processes leave
--       a shard's notes to the caller, then for each shard: the name of the last call that handed
--       out notes of it to the caller, and the number of these notes, which the script drops
-- Returns for each shard {note, ...}; no notes if another process has them
-- Repeat: CARRIER has the name of the last call: a repeated call hands out the same notes and drops
--         nothing twice, and no call drops the notes that another process has meanwhile.
local call, max_notes, carrying_ms = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local SHARDS_FROM, FIELDS = 4, 2

-- Return the notes of a shard, after dropping the `carried` notes of the call `last_call`.
local function take(last_call, carried, count)
  if redis.call('EXISTS', TRIM_NOTES) == 0 then return {} end
  local carrier = redis.call('GET', CARRIER)
  local is_ours = carrier and carrier == last_call
  if is_ours then redis.call('LTRIM', TRIM_NOTES, carried, -1) end
  if carrier and not is_ours and carrier ~= call then return {} end
  local notes = count > 0 and redis.call('LRANGE', TRIM_NOTES, 0, count - 1) or {}
  if notes[1] then
    redis.call('SET', CARRIER, call, 'PX', carrying_ms)
  elseif carrier then
    redis.call('DEL', CARRIER)
  end
  return notes
end

local results, remaining = {}, max_notes
for i, tag in ipairs(KEYS) do
  use(tag)
  local first = SHARDS_FROM + FIELDS * (i - 1)
  results[i] = take(ARGV[first], ARGV[first + 1], remaining)
  remaining = remaining - #results[i]
end
return results
