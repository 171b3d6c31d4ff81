-- include: packed clock requests jobs live outbox
-- Deletes an activity: its body becomes the bare tombstone, for good. A job tells live logs.
-- KEYS  the tag of the actor's shard
-- ARGV  activity id, actor, digest, request name, seconds to keep it, '1' if it was in the actor's outbox, then the entities
--       it was published to
-- Returns {outcome, the job if the caller is to do it, else ''}. Outcomes: deleted, replayed; reused, absent: refused
local id, actor, digest, request = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local known = request_result(request, digest)
if known then return {'replayed', redis.call('ZSCORE', DUE, known) and known or ''} end
if known == false then return {'reused', ''} end
local frame = redis.call('GET', key(ACTIVITY, id))
if not frame or frame == '' then return {'absent', ''} end
local external = external_name(frame)
redis.call('SET', key(ACTIVITY, id), '')
redis.call('DEL', key(HOLDERS, id))
-- The external id ends as with what retention takes; until then it says that the activity was deleted.
if external ~= '' then redis.call('PEXPIRE', key(EXTERNAL, external), RETIRED_MS) end
local external_id = external:match('%z(.*)') or ''
if leased(ALL_LOG) then log_removed(ALL_LOG, id, actor .. '\0' .. external_id) end
local job = '-' .. id .. '\0' .. table.concat({ARGV[6] == '1' and actor or '\1' .. actor, unpack(ARGV, 7)}, '\0')
if external ~= '' then job = job .. '\0\2' .. external_id end
job_due(job)
request_keep(request, digest, job, ARGV[5])
return {'deleted', job}
