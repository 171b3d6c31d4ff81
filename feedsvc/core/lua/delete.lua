-- include: job_text jobs live outbox requests
-- Delete an activity: its body becomes a tombstone without an end. A job announces the removal.
-- KEYS  the tag of the actor's shard
-- ARGV  activity id, actor, digest, request name, seconds to keep the request, '1' if the activity
--       was in the actor's outbox, then the entities that it was published to
-- Returns {outcome, the job if the caller is to do it, else ''}. Outcomes: deleted, replayed;
--         refused: reused, absent
-- Repeat: the request record makes the second call 'replayed', with the same job while the caller's
--         process owns it.
local id, actor, digest, request, request_ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local is_own = ARGV[6] == '1'
local RECIPIENTS = 7

local earlier = request_result(request, digest)
if earlier then return {'replayed', redis.call('ZSCORE', DUE, earlier) and earlier or ''} end
if earlier == false then return {'reused', ''} end
local frame = redis.call('GET', key(ACTIVITY, id))
if not frame or frame == '' then return {'absent', ''} end
local external = external_name(frame)
redis.call('SET', key(ACTIVITY, id), '')
redis.call('DEL', key(HOLDERS, id))
-- The record of the external id ends as after retention; until then it says that the activity was
-- deleted.
if external ~= '' then redis.call('PEXPIRE', key(EXTERNAL, external), TOMBSTONE_MS) end
local external_id = external:match('%z(.*)')
if leased(ALL_LOG) then announce_removed(ALL_LOG, id, actor .. '\0' .. (external_id or '')) end
local job = job_text(RETRACT, id, actor, is_own, ARGV, RECIPIENTS, external_id)
job_own(job)
request_keep(request, digest, job, request_ttl)
return {'deleted', job}
