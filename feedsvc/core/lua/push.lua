-- include: arrays era jobs latest live push
-- Deliver an activity to the warm feeds and the live logs of an author's followers in some shards.
-- KEYS  the tags of the followers' shards; one where each shard has a slot of its own; then, to end
--       the job, the tag of the job's shard
-- ARGV  author, activity id, work budget, number of shards, then for each shard the position to
--       continue after ('-inf' at first); then, to end the job if this call leaves nothing to do:
--       job, era, '1' if the store may lose its last writes
-- Returns for each shard {position to continue after ('' when done), warm feeds that have the
--         activity now, cold feeds, followers}, then 1 if the job has ended, else 0
-- Repeat: feeds have the id, and logs the entry: nothing changes, and the positions are the same.
local author, id, budget, shards = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local POSITIONS = 4
local JOB_FROM = POSITIONS + shards + 1
local job, era, is_lossy = ARGV[JOB_FROM], ARGV[JOB_FROM + 1], ARGV[JOB_FROM + 2]
local job_tag, tags = KEYS[shards + 1], slice(KEYS, 1, shards)

local any_live = is_any_live(tags)
latest_raise(id)
local results, is_done = {}, true
grown_logs = {}
for i, tag in ipairs(tags) do
  use(tag)
  results[i], budget = push(author, id, ARGV[POSITIONS + i], budget, any_live)
  wake_grown()
  is_done = is_done and results[i][1] == ''
end
local has_ended = 0
if job and is_done then
  use(job_tag)
  if era_is(era) then
    if redis.call('ZREM', DUE, job) == 1 then job_remember_done(job, is_lossy) end
    has_ended = 1
  end
end
results[shards + 1] = has_ended
return results
