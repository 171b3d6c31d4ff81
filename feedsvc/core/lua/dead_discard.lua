-- include: clock jobs queue
-- Throws a dead letter away.
-- KEYS  the tag of its shard
-- ARGV  its entry
-- Returns 1, or 0 if there is none
--
-- The record of a delivery stays: it failed. An entity that was being flipped is pushed to from now on, which is right
-- for edges of either kind, and can be flipped again.
local found = redis.call('XRANGE', DEAD, ARGV[1], ARGV[1])[1]
if not found then return 0 end
local text
for i = 1, #found[2], 2 do
  if found[2][i] == 'job' then text = found[2][i + 1] end
end
redis.call('XDEL', DEAD, ARGV[1])
local name, kind = job_name(text), text:sub(1, 1)
if redis.call('ZSCORE', JOBS, name) then return 1 end -- it was made again, or replayed from another letter
if kind ~= '+' then redis.call('DEL', key(JOB, name)) end
if kind == 'c' then
  local entity, epoch = key(EDGES, text:sub(22)), string.format('%.0f', tonumber(text:sub(2, 20)))
  local mode = redis.call('HGET', entity, MODE)
  if mode == '>' .. epoch or mode == '<' .. epoch then redis.call('HSET', entity, MODE, 'U' .. epoch) end
end
return 1
