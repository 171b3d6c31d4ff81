-- include: packed latest feed clock live followers jobs push
-- Delivers an activity to the warm feeds of an author's followers in some shards, and to the logs of live ones.
-- KEYS  the tags of the followers' shards; one, where each shard has a slot of its own; to end the job: and that of its shard
-- ARGV  author, activity id, work budget, how many shards, then for each the position to continue after ('-inf' at first);
--       to end the job with this call, if it leaves nothing: the job, incarnation, '1' if the store may lose its last writes
-- Returns for each {position to continue after ('' when done), warm feeds that it was put into, cold feeds skipped,
--         followers}, then 1 if the job has ended
local author, id, budget, shards = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local any_live = any_live_in({unpack(KEYS, 1, shards)})
latest_raise(id)

local results, left = {}, false
woken = {}
for i = 1, shards do
  use(KEYS[i])
  results[i], budget = push(author, id, ARGV[4 + i], budget, any_live)
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
