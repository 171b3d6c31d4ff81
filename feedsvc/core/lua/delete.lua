-- include: requests
-- Deletes an activity: its body becomes the bare tombstone, for good.
-- KEYS  the tag of the actor's shard
-- ARGV  activity id, actor, digest, request name, seconds to keep it, then the entities it was published to
-- Returns {outcome, bitmap of the shards with followers of the actor, what follows}. Outcomes: deleted, replayed
--         (then: the entities that it was published to, joined by NUL); reused, absent: refused
local id, actor, digest, request = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local bitmap = redis.call('HGET', key(EDGES, actor), SHARDS) or ''
local known = request_result(request, digest)
if known then return {'replayed', bitmap, known} end
if known == false then return {'reused', bitmap, ''} end
local frame = redis.call('GET', key(ACTIVITY, id))
if not frame or frame == '' then return {'absent', bitmap, ''} end
redis.call('SET', key(ACTIVITY, id), '')
redis.call('DEL', key(HOLDERS, id))
-- The body is gone: only the record can tell a retry, after a process died here, who has to hear of it.
request_keep(request, digest, table.concat(ARGV, '\0', 6), ARGV[5])
return {'deleted', bitmap, ''}
