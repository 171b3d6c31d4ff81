-- include: clock feed ids job_text jobs latest live modes outbox push requests
-- Publish an activity: id, body, outbox, own feed, external id, request record and the job that
-- delivers the activity, all in one step. The step delivers the activity itself, and makes no job,
-- if the followers are few and their shards are on this node.
-- KEYS  the tag of the actor's shard
-- ARGV  actor
--       proposed id
--       '1' if the activity's time is now: its id is then above all ids of the outbox
--       frame
--       digest of what was sent
--       request name
--       seconds to keep the request
--       name of the external id record, or ''
--       '1' if the activity goes into the actor's outbox, '0' if not, '-' if no outbox can hold it
--       a name for this call
--       work budget: how much of the delivery the step may do
--       then the entities that the activity is published to
-- Returns {outcome, id, bitmap of the shards with followers of the actor, the actor's mode, 1 if
--         the caller is to do the job, then for each of these shards how far the step has delivered
--         the activity, as push.lua returns it; nothing if the step delivers nothing}.
--         Outcomes: published; replayed: same request; duplicate: same external id; refused:
--         reused, conflict, deleted, expired, before_retention, overloaded; busy: the script found
--         no free id, and the caller calls again
-- Repeat: the request record has the name of the call: the second call returns 'published' with the
--         same id.
local actor_tag = KEYS[1]
local actor, proposed, is_now, frame, digest = ARGV[1], ARGV[2], ARGV[3] == '1', ARGV[4], ARGV[5]
local request, request_ttl, external = ARGV[6], ARGV[7], ARGV[8]
local is_own, is_too_old = ARGV[9] == '1', ARGV[9] == '-'
local call, budget = ARGV[10], tonumber(ARGV[11])
local RECIPIENTS = 12
local has_recipients = ARGV[RECIPIENTS] ~= nil
local MAX_SHARDS = 16 -- most shards that the step itself delivers to
local SKEW_MS = 2000 -- ids of now keep their order by running ahead of the clock, up to a second
-- The same limit for the order of all actors' ids. A store that has lost its last writes is not
-- back so soon.
local NEAR_MS = 20
local MAX_PROBES = 65
local outbox, overflow = key(OUTBOX, actor), nil

local fields = redis.call('HMGET', key(EDGES, actor), SHARDS, MODE)
local bitmap, mode = fields[1] or '', fields[2] or ''

local function job(id) return job_text(DELIVER, id, actor, is_own, ARGV, RECIPIENTS) end

local function answer(outcome, id, is_due, pushed)
  return {outcome, id or '', bitmap, mode, is_due or 0, unpack(pushed or {})}
end

-- Answer a repeated call. A process that died may have left the job behind: the caller then
-- continues the job.
local function answer_again(outcome, id)
  return answer(outcome, id, redis.call('ZSCORE', DUE, job(id)) and 1)
end

-- Return the tags of the shards with followers of the actor.
local function follower_shards()
  local shards, tags = {}, TAGS
  for i = 1, #bitmap do
    local byte, mask = bitmap:byte(i), 128
    for shard = 8 * i - 7, 8 * i do
      if byte >= mask then shards[#shards + 1], byte = tags[shard], byte - mask end
      mask = mask / 2
    end
  end
  return shards
end

-- Push to all followers, or as many as the budget allows. Return how far the step came in each
-- shard, and whether no job is needed.
local function push_all(id, shards, any_live, is_newest)
  local results, seen, is_done = {}, 0, true
  grown_logs = {}
  for i, tag in ipairs(shards) do
    use(tag)
    results[i], budget = push(actor, id, '-inf', budget, any_live, is_newest)
    wake_grown()
    seen, is_done = seen + results[i][4], is_done and results[i][1] == ''
  end
  -- The job counts the followers of an entity that may be a celebrity.
  return results, is_done and (CELEBRITY_THRESHOLD == 0 or seen < CELEBRITY_THRESHOLD)
end

local earlier = request_result(request, digest)
if earlier then
  return answer_again(earlier:sub(20) == call and 'published' or 'replayed', earlier:sub(1, 19))
end
if earlier == false then return answer('reused') end

if external ~= '' then
  local record = redis.call('GET', key(EXTERNAL, external))
  if record then
    local id = record:sub(1, 19)
    local stored = redis.call('GET', key(ACTIVITY, id))
    if not stored or stored == '' then
      -- The tombstone of a deleted activity never expires.
      local is_deleted = stored and redis.call('TTL', key(ACTIVITY, id)) < 0
      return answer(is_deleted and 'deleted' or 'expired', id)
    end
    if record:sub(20) ~= digest then return answer('conflict', id) end
    return answer_again('duplicate', id)
  end
end

local needs_job = has_recipients or is_own and bitmap ~= ''
local unfinished = 0
if needs_job and redis.call('EXISTS', DUE, JOBS) > 0 then
  unfinished = redis.call('ZCARD', DUE) + redis.call('ZCARD', JOBS)
end
-- An author may have as many jobs waiting as the queue has room for further jobs.
if 2 * unfinished >= MAX_JOBS
  and redis.call('LLEN', key(WAITING, actor)) >= MAX_JOBS - unfinished then
  return answer('overloaded')
end

if is_too_old then return answer('before_retention') end

-- The store's clock is the reference: a caller whose clock is wrong neither pins later ids above
-- its own, nor puts a new activity below activities that readers have seen.
local ahead_ms = id_ms(proposed) - clock_ms()
if ahead_ms > SKEW_MS or is_now and ahead_ms < -SKEW_MS then
  proposed = id_at(clock_ms(), proposed)
end
local id, latest = proposed, latest_id()
if is_now and latest and latest >= id and id_ms(latest) <= clock_ms() + NEAR_MS then
  id = id_above(latest, proposed)
end
local is_newest = latest and latest < id
if not is_own then
  -- An earlier activity may have had the id, and its tombstone may have expired.
  if id <= retired_of(actor)[2] then return answer('before_retention') end
elseif is_now and not is_newest then
  local tail = redis.call('LINDEX', outbox, -1)
  if tail and tail >= id then id = id_above_by_time(tail, proposed) end
elseif not is_newest then
  -- Compare the proposed id, not the id that the probes find: otherwise a trimmed activity could
  -- come in again beside its tombstone.
  local floor = redis.call('LINDEX', outbox, 0)
  if floor and (id <= floor
    or (redis.call('LLEN', outbox) > OUTBOX_CAP and id < redis.call('LINDEX', outbox, 1))) then
    return answer('before_retention')
  end
end

-- Probe upward for a free id. In a crowded stretch of time (about 5 ms), continue from the last id
-- placed there.
for probe = 1, MAX_PROBES do
  if redis.call('SET', key(ACTIVITY, id), frame, 'NX') then break end
  if probe % 8 == 0 then
    overflow = key(CROWDED, id:sub(1, 12))
    local last = redis.call('GET', overflow)
    if last and last > id then id = last end
  end
  id = id_above(id, proposed)
  if probe == MAX_PROBES then
    redis.call('SET', overflow, id, 'EX', 3600)
    return answer('busy')
  end
end
if overflow then redis.call('SET', overflow, id, 'EX', 3600) end
if latest and latest < id then redis.call('SET', LATEST, id) end

-- If the actor's outbox is not among the holders, the holders name the actor: see RETIRED.
if has_recipients then
  local holder = is_own and actor or '\1' .. actor
  redis.call('SADD', key(HOLDERS, id), holder, unpack(ARGV, RECIPIENTS))
end
if external ~= '' then redis.call('SET', key(EXTERNAL, external), id .. digest) end
local shards = {}
if needs_job and budget > 0 and not has_recipients and not is_pulled(mode) then
  shards = follower_shards()
end
if #shards > MAX_SHARDS then shards = {} end
local any_live = is_any_live({actor_tag, unpack(shards)})
use(actor_tag)
if is_own then
  outbox_insert(actor, id, is_newest)
  feed_insert(actor, id, actor, is_newest)
  if any_live and leased(actor) then announce_added(actor, id, actor) end
  if any_live and leased(OUTBOX_LOG .. actor) then announce_added(OUTBOX_LOG .. actor, id) end
end
if any_live and leased(ALL_LOG) then announce_added(ALL_LOG, id) end
request_keep(request, digest, id .. call, request_ttl)
local pushed, is_delivered = {}, not needs_job
if shards[1] then
  -- If one feed is broken, a job delivers the activity to the other feeds.
  local is_whole, results, is_done = pcall(push_all, id, shards, any_live, is_newest)
  if is_whole then pushed, is_delivered = results, is_done else wake_grown() end
  use(actor_tag)
end
if not is_delivered then job_own(job(id)) end
return answer('published', id, not is_delivered and 1, pushed)
