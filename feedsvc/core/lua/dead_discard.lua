-- include: job_text modes queue
-- Discard a dead letter.
-- KEYS  the tag of the letter's shard
-- ARGV  entry: the id of the letter in the stream
-- Returns 1, or 0 if there is no such letter
-- Repeat: finds no letter and returns 0.
--
-- The record of a delivery stays: the delivery failed. An entity whose flip failed is pushed to
-- from now on, which is right for edges of either kind, and can be flipped again.
local entry = ARGV[1]

local letter = dead_letter(entry)
if not letter then return 0 end
redis.call('XDEL', DEAD, entry)
local text = letter.job
local name = job_name(text)
-- The job was made again, or replayed from another letter.
if redis.call('ZSCORE', JOBS, name) then return 1 end
if job_kind(text) ~= DELIVER then redis.call('DEL', key(JOB, name)) end
local entity, epoch = job_flip(text)
if entity then mode_end_flip(entity, epoch, MODE_PUSH) end
return 1
