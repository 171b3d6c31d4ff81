-- include: requests
-- Deletes an activity: its body becomes the bare tombstone, for good.
-- KEYS  the tag of the actor's shard
-- ARGV  activity id, actor, digest, request name, seconds to keep it
-- Returns {outcome, bitmap of the shards with followers of the actor}. Outcomes: deleted, replayed; reused,
--         absent: refused
local id, actor, digest, request = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local bitmap = redis.call('GET', key(BITMAP, actor)) or ''
local known = request_result(request, digest)
if known then return {'replayed', bitmap} end
if known == false then return {'reused', bitmap} end
local frame = redis.call('GET', key(ACTIVITY, id))
if not frame or frame == '' then return {'absent', bitmap} end
redis.call('SET', key(ACTIVITY, id), '')
redis.call('DEL', key(HOLDERS, id))
request_keep(request, digest, '', ARGV[5])
return {'deleted', bitmap}
