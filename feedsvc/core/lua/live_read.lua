-- include: clock live
-- Reads a live log after an entry, which must still be there: else something is missing.
-- KEYS  the tag of the entity's shard
-- ARGV  entity, entry id, count
-- Returns {entry id, kind, what, ...} flat, or 'lost'. Reading keeps the entity live.
local entity, after = ARGV[1], ARGV[2]
if not is_live(entity) then return 'lost' end
local log = cache_key(LOG, entity)
local found = redis.call('XRANGE', log, after, '+', 'COUNT', tonumber(ARGV[3]) + 1)
if not found[1] or found[1][1] ~= after then return 'lost' end
if tonumber(redis.call('ZSCORE', LIVE, entity)) - clock_us() / 1000 < LEASE_MS * 2 / 3 then log_renew(entity) end
local flat = {}
for i = 2, #found do
  flat[#flat + 1] = found[i][1]
  flat[#flat + 1] = found[i][2][1]
  flat[#flat + 1] = found[i][2][2]
end
return flat
