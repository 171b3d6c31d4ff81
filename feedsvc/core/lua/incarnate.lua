-- Note the run of the store, before a connection asks anything else.
-- KEYS  the tags of all shards of the node
-- ARGV  the store's run id, '1' if the store may have lost its last writes at its last start, a new
--       random era
-- Returns the incarnation of all shards, then the era of each
-- Repeat: finds its own run id and returns the incarnation and the eras that the first call chose.
--
-- The incarnation and the era change when writes may be lost. Then feeds are cold and logs gone,
-- because the incarnation is a part of their keys, and workers repeat the jobs that wrote to
-- outboxes. The era fences off the jobs that began before the loss. The era is random: a count
-- could repeat itself when the store loses its data twice, or loses all data. Shards of a node have
-- one incarnation: scripts that work on several shards look it up once.
local run_id, may_lose_writes, new_era = ARGV[1], ARGV[2] == '1', ARGV[3]

local shards, is_lost, first_incarnation, greatest = {}, false, nil, 0
for i, tag in ipairs(KEYS) do
  use(tag)
  local run, era, incarnation = unpack(redis.call('HMGET', TALLIES, 'run', 'era', 'incarnation'))
  shards[i] = {run = run, era = era}
  first_incarnation = first_incarnation or incarnation or ''
  greatest = math.max(greatest, tonumber(incarnation or 0))
  is_lost = is_lost or run and run ~= run_id and may_lose_writes
    or (incarnation or '') ~= first_incarnation
end
local next_incarnation = string.format('%.0f', greatest + 1)
local eras = {}
for i, tag in ipairs(KEYS) do
  local run, old_era = shards[i].run, shards[i].era
  local era = old_era
  use(tag)
  if is_lost or not old_era then era = new_era end
  eras[i] = era
  if is_lost or run ~= run_id or era ~= old_era then
    redis.call('HSET', TALLIES, 'run', run_id, 'era', era)
  end
  if is_lost then
    redis.call('HSET', TALLIES, 'incarnation', next_incarnation)
    -- The set names the jobs to repeat, not a time: an operator may have set the clock back.
    redis.call('ZUNIONSTORE', REDO, 2, REDO, DONE, 'AGGREGATE', 'MAX')
    redis.call('DEL', DONE)
  end
end
return {is_lost and next_incarnation or first_incarnation, unpack(eras)}
