-- Notes which run of the store this is, before anything else is asked of it.
-- KEYS  the tags of all shards of the node
-- ARGV  the store's run id, '1' if it may have lost its last writes when it was started anew, a random era
-- Returns the incarnation of all, then the era of each
--
-- Both change when writes may be lost. Then feeds are cold and logs gone, because the incarnation is part of their names,
-- and what was written to outboxes beside is written again. The era fences off what was begun before: it is random,
-- because a count comes again when the store loses its data twice, or has lost all of it. Shards of a node have one
-- incarnation: scripts that work on several look for it once.
local known, lost, first, greatest = {}, false, nil, 0
for i, tag in ipairs(KEYS) do
  use(tag)
  local run, era, incarnation = unpack(redis.call('HMGET', TALLIES, 'run', 'era', 'incarnation'))
  known[i], first, greatest = {run, era}, first or incarnation or '', math.max(greatest, tonumber(incarnation or 0))
  lost = lost or run and run ~= ARGV[1] and ARGV[2] == '1' or (incarnation or '') ~= first
end
local eras = {}
for i, tag in ipairs(KEYS) do
  local run, era = unpack(known[i])
  use(tag)
  if lost or not era then era = ARGV[3] end
  eras[i] = era
  if lost or run ~= ARGV[1] or era ~= known[i][2] then redis.call('HSET', TALLIES, 'run', ARGV[1], 'era', era) end
  if lost then
    redis.call('HSET', TALLIES, 'incarnation', string.format('%.0f', greatest + 1))
    -- By their set, not by a time: the clock may have been set back.
    redis.call('ZUNIONSTORE', REDO, 2, REDO, DONE, 'AGGREGATE', 'MAX')
    redis.call('DEL', DONE)
  end
end
return {lost and string.format('%.0f', greatest + 1) or first, unpack(eras)}
