-- Eras: incarnate.lua gives a shard a new era when the store loses writes.

-- Return whether the shard still has the history that the caller knows.
local function era_is(era) return (redis.call('HGET', TALLIES, 'era') or '') == era end
