-- Modes: how the followers of an entity get its activities. A mode is a letter and the epoch of the
-- flip that set the letter. The entity's shard holds the mode in the field MODE of EDGES. Each
-- shard of its followers holds in CELEBRITIES the letter P or U and the epoch of the last flip
-- there. Source in sources.py has the same predicates.

local function is_pulled(mode) return mode:sub(1, 1) == MODE_PULL end

-- Return whether the edges are PULL, or a flip is turning them to PULL.
local function is_pull_wanted(mode)
  local letter = mode:sub(1, 1)
  return letter == MODE_PULL or letter == MODE_TO_PULL
end

-- Return the epoch of a mode; nil if there is no mode.
local function mode_epoch(mode) return tonumber(mode:sub(2)) end

local function mode_text(letter, epoch) return letter .. string.format('%.0f', epoch) end

-- Replace the mode that the flip of this epoch has set, if no later flip has begun. `after_pull` is
-- the letter that follows MODE_TO_PULL.
local function mode_end_flip(entity, epoch, after_pull)
  local edges = key(EDGES, entity)
  local mode = redis.call('HGET', edges, MODE)
  if mode == mode_text(MODE_TO_PULL, epoch) then
    redis.call('HSET', edges, MODE, mode_text(after_pull, epoch))
  elseif mode == mode_text(MODE_TO_PUSH, epoch) then
    redis.call('HSET', edges, MODE, mode_text(MODE_PUSH, epoch))
  end
end
