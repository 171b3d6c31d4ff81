-- Hands out notes of what outboxes of some shards let go. One process at a time has the notes of a shard.
-- KEYS  the tags of the shards; one, where each shard has a slot of its own
-- ARGV  a name for this call, how many notes at most, for how long others leave a shard's notes to the caller in ms, then
--       for each shard the name of the last call that handed out notes of it to the caller, and how many: these are dropped
-- Returns for each shard the notes; none if another process has them
--
-- The name of the last call stands in CARRIER. So a call that is repeated drops nothing twice, and nobody drops what
-- has been handed out to somebody else meanwhile.
local name, left, ms = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local results = {}
for i = 1, #KEYS do
  use(KEYS[i])
  local notes = {}
  if redis.call('EXISTS', LET_GO) == 1 then
    local carrier = redis.call('GET', CARRIER)
    local ours = carrier and carrier == ARGV[2 + 2 * i]
    if ours then redis.call('LTRIM', LET_GO, ARGV[3 + 2 * i], -1) end
    if not carrier or ours or carrier == name then
      if left > 0 then notes = redis.call('LRANGE', LET_GO, 0, left - 1) end
      if notes[1] then
        redis.call('SET', CARRIER, name, 'PX', ms)
      elseif carrier then
        redis.call('DEL', CARRIER)
      end
      left = left - #notes
    end
  end
  results[i] = notes
end
return results
