-- include: packed clock latest feed outbox live followers requests jobs push
-- Publishes an activity: id, body, outbox, own feed, external id, request record, and what delivers it, all in one step.
-- That is a job; or the step itself, if the followers are few and their shards are on this node.
-- KEYS  the tag of the actor's shard
-- ARGV  actor, proposed id, '1' if its time is now (it then goes above all that the outbox holds), frame,
--       digest of what was sent, request name, seconds to keep it, external name or '', '1' if it goes into the
--       actor's outbox, '-' if no outbox can hold it, a name for this call, how much work the step may take upon itself
--       to deliver it, then the entities it is published to
-- Returns {outcome, id, bitmap of the shards with followers of the actor, its mode, 1 if the caller is to do the job, then
--       for each of these shards how far this step has delivered it, as push.lua does, or nothing if it has not begun}.
--       A call that is repeated, because its reply was lost, answers as at first.
--       Outcomes: published, replayed (same request), duplicate (same external id); reused, conflict, deleted,
--       expired, before_retention, overloaded: refused; busy: no free id found yet, call again
local actor, proposed, fresh, frame, digest = ARGV[1], ARGV[2], ARGV[3] == '1', ARGV[4], ARGV[5]
local request, request_ttl, external, own, call = ARGV[6], ARGV[7], ARGV[8], ARGV[9] == '1', ARGV[10]
local budget = tonumber(ARGV[11])
local outbox, overflow = key(OUTBOX, actor), nil
local SHARDS_A_STEP = 16 -- shards that the step itself delivers to at the most
local SKEW_MS = 2000 -- ids of now keep their order by running ahead of the clock, for up to a second
local NEAR_MS = 20 -- the same for those of all actors; a store that has lost its last writes is not back so soon

local found = redis.call('HMGET', key(EDGES, actor), SHARDS, MODE)
local bitmap, mode = found[1] or '', found[2] or ''

local function job(id) return '+' .. id .. '\0' .. table.concat({own and actor or '\1' .. actor, unpack(ARGV, 12)}, '\0') end

local function answer(outcome, id, due, pushed) return {outcome, id or '', bitmap, mode, due or 0, unpack(pushed or {})} end

-- A process that died may have left the job behind: who asks again goes on with it.
local function again(outcome, id) return answer(outcome, id, redis.call('ZSCORE', DUE, job(id)) and 1) end

-- The next id of this shard above another id, which may be of another shard. 10^10 is a multiple of 256.
local function above(id)
  local low = tonumber(id:sub(-10))
  low = low - low % 256 + tonumber(proposed:sub(-10)) % 256
  if low <= tonumber(id:sub(-10)) then low = low + 256 end
  if low < 1e10 then return id:sub(1, 9) .. string.format('%010.0f', low) end
  return string.format('%09.0f%010.0f', tonumber(id:sub(1, 9)) + 1, low - 1e10)
end

-- The sequence and the shard of an id. 2^21 divides 10^10 with this rest.
local function low21(one) return (tonumber(one:sub(1, 9)) * 779264 + tonumber(one:sub(-10))) % 2097152 end

-- An id above another one and as much the caller's own as the proposed one: in the next millisecond, with the proposed
-- sequence. Those of activities that the store has lost are then not given to others.
local function high_above(id)
  local high = tonumber(id:sub(1, 9))
  local low = tonumber(id:sub(-10)) - low21(id) + 2097152 + low21(proposed)
  if low >= 1e10 then high, low = high + 1, low - 1e10 end
  if low < 0 then high, low = high - 1, low + 1e10 end
  return string.format('%09.0f%010.0f', high, low)
end

-- The proposed id, moved to another time. 2^21 does not fit into a product with milliseconds, but with parts of them.
local function moved_to(ms)
  local high, low = math.floor(ms / 1e6) * 2097152, ms % 1e6 * 2097152 + low21(proposed)
  low = high % 1e4 * 1e6 + low
  return string.format('%09.0f%010.0f', math.floor(high / 1e4) + math.floor(low / 1e10), low % 1e10)
end

-- The tags of the shards with followers of the actor.
local function follower_shards()
  local shards, tags = {}, TAGS
  for i = 1, #bitmap do
    local bits, bit = bitmap:byte(i), 128
    for shard = 8 * i - 7, 8 * i do
      if bits >= bit then shards[#shards + 1], bits = tags[shard], bits - bit end
      bit = bit / 2
    end
  end
  return shards
end

-- Pushes to all followers, or as many as the budget allows. Returns how far it came in each shard, and whether that is all.
local function push_all(id, shards, any_live, newest)
  local results, seen, all = {}, 0, true
  woken = {}
  for i, tag in ipairs(shards) do
    use(tag)
    results[i], budget = push(actor, id, '-inf', budget, any_live, newest)
    wake_all()
    seen, all = seen + results[i][4], all and results[i][1] == ''
  end
  -- Whoever may be a celebrity is counted by the job.
  return results, all and (CELEBRITY_THRESHOLD == 0 or seen < CELEBRITY_THRESHOLD)
end

local known = request_result(request, digest)
if known then return again(known:sub(20) == call and 'published' or 'replayed', known:sub(1, 19)) end
if known == false then return answer('reused') end

if external ~= '' then
  local record = redis.call('GET', key(EXTERNAL, external))
  if record then
    local id = record:sub(1, 19)
    local stored = redis.call('GET', key(ACTIVITY, id))
    if not stored or stored == '' then
      -- The tombstone of what was deleted is there for good.
      return answer(stored and redis.call('TTL', key(ACTIVITY, id)) < 0 and 'deleted' or 'expired', id)
    end
    if record:sub(20) ~= digest then return answer('conflict', id) end
    return again('duplicate', id)
  end
end

local needed = #ARGV > 11 or own and bitmap ~= ''
local open = needed and redis.call('EXISTS', DUE, JOBS) > 0 and redis.call('ZCARD', DUE) + redis.call('ZCARD', JOBS) or 0
-- An author may have as many jobs waiting as there is room left for others.
if 2 * open >= MAX_JOBS and redis.call('LLEN', key(WAITING, actor)) >= MAX_JOBS - open then return answer('overloaded') end

if ARGV[9] == '-' then return answer('before_retention') end

-- The store's clock is the reference: a caller whose clock is wrong pins nothing above what comes, nor puts what is
-- new below what readers have seen.
local off = math.floor(tonumber(proposed) / 2097152) - clock_ms()
if off > SKEW_MS or fresh and off < -SKEW_MS then proposed = moved_to(clock_ms()) end
local id, latest = proposed, latest_id()
if fresh and latest and latest >= id and math.floor(tonumber(latest) / 2097152) <= clock_ms() + NEAR_MS then
  id = above(latest)
end
local newest = latest and latest < id
if not own then
  -- Its id may have been used before, and the tombstone be gone.
  if id <= retired_of(actor)[2] then return answer('before_retention') end
elseif fresh and not newest then
  local tail = redis.call('LINDEX', outbox, -1)
  if tail and tail >= id then id = high_above(tail) end
elseif not newest then
  -- By the proposed id, not by the one found: what was let go can then not come in again beside its tombstone.
  local floor = redis.call('LINDEX', outbox, 0)
  if floor and (id <= floor or (redis.call('LLEN', outbox) > OUTBOX_CAP and id < redis.call('LINDEX', outbox, 1)))
  then return answer('before_retention') end
end

-- Probe upward. Where it is crowded, go on from where the last one of the neighbourhood (about 5 ms) was placed.
for probe = 1, 65 do
  if redis.call('SET', key(ACTIVITY, id), frame, 'NX') then break end
  if probe % 8 == 0 then
    overflow = key(CROWDED, id:sub(1, 12))
    local last = redis.call('GET', overflow)
    if last and last > id then id = last end
  end
  id = above(id)
  if probe == 65 then
    redis.call('SET', overflow, id, 'EX', 3600)
    return answer('busy')
  end
end
if overflow then redis.call('SET', overflow, id, 'EX', 3600) end
if latest and latest < id then redis.call('SET', LATEST, id) end

-- If the actor's outbox is not among the holders, the actor is named: see RETIRED.
if #ARGV > 11 then redis.call('SADD', key(HOLDERS, id), own and actor or '\1' .. actor, unpack(ARGV, 12)) end
if external ~= '' then redis.call('SET', key(EXTERNAL, external), id .. digest) end
local shards = {}
if needed and budget > 0 and #ARGV == 11 and mode:sub(1, 1) ~= 'P' then shards = follower_shards() end
if #shards > SHARDS_A_STEP then shards = {} end
local any_live = any_live_in({unpack(KEYS), unpack(shards)})
use(KEYS[1])
if own then
  outbox_insert(actor, id, newest)
  feed_insert(actor, id, actor, newest)
  if any_live and leased(actor) then log_added(actor, id, actor) end
  if any_live and leased(OUTBOX_LOG .. actor) then log_added(OUTBOX_LOG .. actor, id) end
end
if any_live and leased(ALL_LOG) then log_added(ALL_LOG, id) end
request_keep(request, digest, id .. call, request_ttl)
local pushed, all = {}, not needed
if shards[1] then
  -- Should a feed be broken, the job goes by it.
  local whole, results, ended = pcall(push_all, id, shards, any_live, newest)
  if whole then pushed, all = results, ended else wake_all() end
  use(KEYS[1])
end
if not all then job_due(job(id)) end
return answer('published', id, not all and 1, pushed)
