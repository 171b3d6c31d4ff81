-- include: packed feed clock live followers jobs
-- Delivers an activity to the warm feeds of an author's followers in some shards, and to the logs of live ones.
-- KEYS  the tags of the followers' shards; one, where each shard has a slot of its own; to end the job: and that of its shard
-- ARGV  author, activity id, work budget, how many shards, then for each the position to continue after ('-inf' at first);
--       to end the job with this call, if it leaves nothing: the job, incarnation, '1' if the store may lose its last writes
-- Returns for each {position to continue after ('' when done), warm feeds that it was put into, cold feeds skipped,
--         followers}, then 1 if the job has ended
--
-- That a follower stands in the index means that the edge is there: both change in one step. An edge that is
-- PULL is delivered to all the same, so that it can be flipped to PUSH meanwhile. Doing it again changes nothing.
local author, id, budget, shards = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local spent, left = 0, false

local leases = {}
for i = 1, shards do
  use(KEYS[i])
  leases[i] = LIVE
end
local any_live = shards > 0 and redis.call('EXISTS', unpack(leases)) > 0

local function push(position)
  if spent >= budget then return {position, 0, 0, 0} end
  local count = budget - spent
  local followers, many = followers_after(author, position, count)
  local delivered, cold = 0, 0
  for i = 1, #followers do
    if many and spent >= budget then
      return {redis.call('ZSCORE', key(FOLLOWERS, author), followers[i - 1]), delivered, cold, i - 1}
    end
    local follower = followers[i]
    local outcome, cost = feed_insert(follower, id, author)
    if outcome == COLD then cold = cold + 1 elseif outcome == ADDED then delivered = delivered + 1 end
    if any_live and leased(follower) then
      log_added(follower, id, author)
      cost = cost + 6
    end
    spent = spent + cost
  end
  local reached = ''
  if many and #followers == count then
    reached = redis.call('ZSCORE', key(FOLLOWERS, author), followers[count])
    if tonumber(reached) >= tonumber(followers_last(author)) then reached = '' end
  end
  return {reached, delivered, cold, #followers}
end

local results = {}
woken = {}
for i = 1, shards do
  use(KEYS[i])
  results[i] = push(ARGV[4 + i])
  wake_all()
  left = left or results[i][1] ~= ''
end
local rest = 5 + shards
local job, ended = ARGV[rest], 0
if job and not left then
  use(KEYS[shards + 1])
  if incarnation_is(ARGV[rest + 1]) then
    if redis.call('ZREM', DUE, job) == 1 then job_done(job, ARGV[rest + 2]) end
    ended = 1
  end
end
results[shards + 1] = ended
return results
