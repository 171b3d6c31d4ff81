-- include: clock jobs queue
-- Puts a dead letter back into the queue.
-- KEYS  the tag of its shard
-- ARGV  its entry
-- Returns 1, or 0 if there is none
local found = redis.call('XRANGE', DEAD, ARGV[1], ARGV[1])[1]
if not found then return 0 end
local letter = {}
for i = 1, #found[2], 2 do letter[found[2][i]] = found[2][i + 1] end
redis.call('XDEL', DEAD, ARGV[1])
job_queue(letter.job, letter.at, letter.feeds, letter.cold, letter.seen, letter.audience)
return 1
