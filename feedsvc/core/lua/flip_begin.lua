-- include: clock jobs queue
-- Begins to flip an entity's followers, unless they are on their way or there already.
-- KEYS  the tag of the entity's shard
-- ARGV  entity, 'pull' or 'push'
-- Returns 1 if it began
local entity, pull = ARGV[1], ARGV[2] == 'pull'
local mode = redis.call('HGET', key(EDGES, entity), MODE) or 'U0'
if mode:sub(1, 1) ~= (pull and 'U' or 'P') then return 0 end
local epoch = tonumber(mode:sub(2)) + 1
redis.call('HSET', key(EDGES, entity), MODE, (pull and '>' or '<') .. string.format('%.0f', epoch))
job_queue(string.format('c%019.0f', epoch) .. '\0' .. entity, '', 0, 0, 0, '')
return 1
