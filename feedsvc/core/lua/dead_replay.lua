-- include: queue
-- Replay a dead letter: put its job back into the queue.
-- KEYS  the tag of the letter's shard
-- ARGV  entry: the id of the letter in the stream
-- Returns 1, or 0 if there is no such letter
-- Repeat: finds no letter and returns 0. The job is in the queue once.
local entry = ARGV[1]

local letter = dead_letter(entry)
if not letter then return 0 end
redis.call('XDEL', DEAD, entry)
job_queue(letter.job, letter.at, letter.feeds, letter.cold, letter.seen, letter.audience)
return 1
