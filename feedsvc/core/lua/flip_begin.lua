-- include: job_text modes queue
-- Begin to flip the edges to an entity, unless a flip is under way or the edges are right already.
-- KEYS  the tag of the entity's shard
-- ARGV  entity, 'pull' or 'push'
-- Returns 1 if the flip began, else 0
-- Repeat: finds the flip under way and returns 0. The job is in the queue once.
local entity, is_pull = ARGV[1], ARGV[2] == 'pull'

local mode = redis.call('HGET', key(EDGES, entity), MODE) or mode_text(MODE_PUSH, 0)
if mode:sub(1, 1) ~= (is_pull and MODE_PUSH or MODE_PULL) then return 0 end
local epoch = mode_epoch(mode) + 1
local mode_after = mode_text(is_pull and MODE_TO_PULL or MODE_TO_PUSH, epoch)
redis.call('HSET', key(EDGES, entity), MODE, mode_after)
job_queue(job_flip_text(entity, epoch), '', 0, 0, 0, '')
return 1
