-- The text of a job, which holds everything about the job. job.py reads and writes the text too:
--
--   <kind><19 digits> NUL [\1]<actor> NUL <outbox> NUL <outbox> ... NUL \2<external id>
--
-- The digits are an activity id, or the epoch of a flip. \1 says that the job does not address the
-- followers of the actor. The external id of a deleted activity ends the text, if there is one.
local DELIVER, RETRACT, FLIP = '+', '-', 'c'
local NOT_ADDRESSED, EXTERNAL_ID = '\1', '\2'

-- Return the text of a job. `list` has the entities beside the actor from the index `first` on.
local function job_text(kind, subject, actor, is_addressed, list, first, external_id)
  local text = kind .. subject .. '\0' .. (is_addressed and actor or NOT_ADDRESSED .. actor)
  if list[first] then text = text .. '\0' .. table.concat(list, '\0', first) end
  return external_id and text .. '\0' .. EXTERNAL_ID .. external_id or text
end

local function job_flip_text(entity, epoch)
  return job_text(FLIP, string.format('%019.0f', epoch), entity, true, {}, 1)
end

local function job_kind(text) return text:sub(1, 1) end

-- Return the author of a job: authors take turns.
local function job_author(text) return text:match('^[^%z]*%z' .. NOT_ADDRESSED .. '?([^%z]*)') end

-- Return the actor whose followers a job addresses. The result is no entity's name if the job
-- addresses only the followers of the outboxes.
local function job_addressee(text) return text:match('^[^%z]*%z([^%z]*)') end

-- Return the name of a job's record. A flip has the name of its entity: an entity is flipped in one
-- direction at a time.
local function job_name(text)
  return job_kind(text) == FLIP and FLIP .. text:sub(22) or text:sub(1, 20)
end

-- Return whether a job is about entities beside its actor, or has an external id.
local function job_has_outboxes(text) return text:find('%z.*%z') ~= nil end

-- Return the entity and the epoch of a flip; nil for other kinds.
local function job_flip(text)
  if job_kind(text) ~= FLIP then return nil end
  return text:sub(22), tonumber(text:sub(2, 20))
end
