-- include: era jobs
-- End a job that its own process has done.
-- KEYS  the tag of the job's shard
-- ARGV  job, era, '1' if the store may lose its last writes
-- Returns 1, or 0 if the store has lost work that was done for the job: a worker repeats the job
-- Repeat: finds the job ended and changes nothing.
local job, era, is_lossy = ARGV[1], ARGV[2], ARGV[3]

if not era_is(era) then return 0 end
if redis.call('ZREM', DUE, job) == 1 then job_remember_done(job, is_lossy) end
return 1
