#!lua
-- One exchange of one replica: what `ledger.rs` says, step by step, as one that nobody comes between.
--
-- KEYS  1 plan (hash)  2 parts (list)  3 seen (hash)  4 rolled (hash)  5 audit (list)  6 replicas (hash)
--       7 blocks (hash)  8 model (hash)
-- ARGV  1 the question (JSON)  2 a part's text  3 a plan to be written or put back (JSON)  4 an audit record
--       5 a status  6 where everybody listens  7 what whoever decides listens to, without its name
local MADE, LEASE, MOST, READ, RECORDS, TOLD, DAYS = 'parhelion 1', 3000, 65536, 1024, 2048, 256, 30 * 86400
local plan, parts, seen, rolled, audit, replicas, blocks, model = unpack(KEYS)
local ask = cjson.decode(ARGV[1])
local call, number = redis.call, function(value) return tonumber(value or 0) or 0 end

local made = call('HGET', model, 'made')
if made and made ~= MADE then
    return redis.error_reply('FOREIGN ' .. made)
elseif not made then
    call('HSET', model, 'made', MADE)
end
-- Keys of another type are found before anything is written.
for _, key in ipairs({ rolled, replicas, blocks }) do call('HLEN', key) end
call('LLEN', audit)
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local field = call('HMGET', plan, 'version', 'beat', 'id', 'first', 'holder', 'fence', 'until')
local version, beat, id = number(field[1]), number(field[2]), field[3] or ''
local first, holder, fence, till = number(field[4]), field[5] or '', number(field[6]), number(field[7])
local news = false
-- Numbers of records go on where anybody has read, whatever was lost.
if number(call('HGET', model, 'audits')) < ask.audit then call('HSET', model, 'audits', ask.audit) end

local function write(mark, name)
    news = news or name ~= id
    version, beat, id = mark[1], mark[2], name
    call('HSET', plan, 'version', version, 'beat', beat, 'id', id, 'text', ARGV[3])
end

-- Keeps only parts that follow on those which a plan rests on.
local function rebuild()
    local absorbed, waiting = cjson.decode(ARGV[3]).absorbed, call('LRANGE', parts, 0, -1)
    first = first + #waiting
    call('DEL', seen, parts)
    for _, text in ipairs(waiting) do
        local who, from, to = string.match(text, '^([^\n]*)\n(%d+)\n(%d+)\n')
        if who and number(absorbed[who]) == number(from) then
            absorbed[who] = number(to)
            call('RPUSH', parts, text)
        end
    end
    for who, last in pairs(absorbed) do call('HSET', seen, who, string.format('%.0f', last)) end
end

local refill = ask.refill
if refill and (refill.mark[1] > version or (refill.mark[1] == version and refill.mark[2] > beat)) then
    rebuild()
    write(refill.mark, refill.id)
end

for _, one in ipairs(ask.rolled) do
    if call('HSETNX', rolled, one[1], one[2]) == 1 then news = true end
end

-- A plan in the place of the one that it was decided from.
local commit, committed = ask.commit, 0
if commit and not (commit.fence and (holder ~= ask.replica or fence ~= commit.fence)) then
    if version == commit.mark[1] and beat == commit.mark[2] and id == commit.id then
        committed = 1
    elseif version == commit.base[1] and beat == commit.base[2] then
        committed = 1
        -- A store that was restored may have others in these places than were read there.
        local taken = math.max(0, math.min(commit.taken - first, call('LLEN', parts)))
        local rests = not commit.resync
        if rests and taken > 0 then
            local absorbed = cjson.decode(ARGV[3]).absorbed
            for _, text in ipairs(call('LRANGE', parts, 0, taken - 1)) do
                local who, to = string.match(text, '^([^\n]*)\n%d+\n(%d+)\n')
                rests = rests and who and number(to) <= number(absorbed[who])
            end
        end
        if not rests then
            rebuild()
        elseif taken > 0 then
            call('LTRIM', parts, taken, -1)
            first = first + taken
        end
        write(commit.mark, commit.id)
        if ARGV[4] ~= '' then
            call('RPUSH', audit, ARGV[4])
            call('LTRIM', audit, -RECORDS, -1)
            call('HINCRBY', model, 'audits', 1)
        end
        for _, one in ipairs(commit.blocks) do
            if one[2] then call('HSET', blocks, one[1], one[2]) else call('HDEL', blocks, one[1]) end
        end
        for _, key in ipairs(KEYS) do call('EXPIRE', key, DAYS) end
    end
end

local last = number(call('HGET', seen, ask.replica))
if ask.part and ask.part[1] == last and call('LLEN', parts) < MOST then
    last = ask.part[2]
    call('HSET', seen, ask.replica, string.format('%.0f', last))
    call('RPUSH', parts, string.format('%s\n%.0f\n%.0f\n', ask.replica, ask.part[1], last) .. ARGV[2])
    if ask.urgent and holder ~= '' and holder ~= ask.replica then
        call('PUBLISH', ARGV[7] .. holder, 'look')
    end
end

if ask.want == 'lease' and (holder == ask.replica or till <= now) then
    if holder ~= ask.replica then holder, fence = ask.replica, fence + 1 end
    till = now + LEASE
elseif ask.want == 'release' and holder == ask.replica then
    till = 0
    news = true
end
call('HSET', plan, 'first', first, 'holder', holder, 'fence', fence, 'until', till)

if ARGV[5] ~= '' then
    call('HSET', replicas, ask.replica, string.format('%.0f\n', now) .. ARGV[5])
end
if news then call('PUBLISH', ARGV[6], 'news') end

local leads, read = till > now and holder == ask.replica, {}
local begin = first
if ask.read and leads then
    begin = first + math.max(0, math.min(ask.read - first, call('LLEN', parts)))
    read = call('LRANGE', parts, begin - first, begin - first + READ - 1)
end
local audits = number(call('HGET', model, 'audits'))
local after = math.max(ask.audit, audits - TOLD)
local records = after < audits and call('LRANGE', audit, -(audits - after), -1) or {}
local text = (ask.fresh or id ~= ask.held) and call('HGET', plan, 'text') or ''
local others = {}
if ask.census then
    others = call('HGETALL', replicas)
    for place = 1, #others, 2 do
        -- Who has said nothing for an hour is gone.
        if number(string.match(others[place + 1], '^%d+')) < now - 3600000 then
            call('HDEL', replicas, others[place])
        end
    end
end
local whole = function(value) return string.format('%.0f', value) end
return {
    whole(now), whole(version), whole(beat), text or '', whole(last), till > now and holder or '', whole(fence),
    whole(committed), whole(begin), read, call('HVALS', rolled), whole(audits - #records), records, others,
    ask.blocks and call('HGETALL', blocks) or {},
    ask.census and ask.read and leads and call('HGETALL', seen) or {},
}
