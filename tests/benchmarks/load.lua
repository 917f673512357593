-- Requests of one workload for wrk. The harness puts `config` in front: what to send, where, and the run's name.
--
-- No response() here: with it wrk copies every head and body for Lua, which would slow the load down more than the
-- fastest servers. Bodies are checked by requests of the harness itself.

local random, concat = math.random, table.concat
local words, length = config.words, config.length
local threads, sent = 0, 0
local head, id

function setup(thread)
    threads = threads + 1
    thread:set("number", threads)
end

function init(arguments)
    math.randomseed(config.seed + number * 1000003)
    id = config.run .. "-w" .. number .. "-"
    local lines = {
        "POST " .. config.path .. " HTTP/1.1",
        "Host: " .. wrk.host .. ":" .. wrk.port,
        "Content-Type: application/json",
        "Content-Length: ",
    }
    head = concat(lines, "\r\n")
end

local function word()
    if config.numbered > 0 then
        return "w" .. random(config.numbered)
    end
    return words[random(#words)]
end

local text = {}
local function text_of_words()
    for i = 1, length do
        text[i] = word()
    end
    return concat(text, " ", 1, length)
end

local function text_of_characters()
    for i = 1, 6 do
        text[i] = string.char(random(97, 122))
    end
    text[1] = concat(text, "", 1, 6)
    local n, size = 1, 6
    while size < config.characters do
        n = n + 1
        text[n] = word()
        size = size + 1 + #text[n]
    end
    return (concat(text, " ", 1, n):sub(1, config.characters):gsub(" $", "x"))
end

local new_text = config.characters > 0 and text_of_characters or text_of_words

local parts = {}
local function row()
    local n = 0
    for _, field in ipairs(config.ranges) do
        n = n + 1
        parts[n] = '"' .. field.name .. '":' .. random(field.low, field.high) / field.by
    end
    for _, group in ipairs(config.groups) do
        local level = random(group.first, group.last + 1)
        for i = group.first, group.last do
            n = n + 1
            parts[n] = '"feat' .. i .. '":' .. (i == level and "1" or "0")
        end
    end
    return "{" .. concat(parts, ",", 1, n) .. "}"
end

local texts = {}
local function body(chosen)
    if config.texts == 0 then
        return row()
    end
    for i = 1, config.texts do
        texts[i] = config.fresh and new_text() or config.few[chosen]
    end
    return config.before .. concat(texts, '","', 1, config.texts) .. config.after
end

function request()
    sent = sent + 1
    local chosen = config.fresh and 0 or random(#config.few)
    local content = body(chosen)
    local key = ""
    if config.keys == "new" then
        key = "\r\nIdempotency-Key: " .. id .. sent
    elseif config.keys == "few" then
        key = "\r\nIdempotency-Key: " .. config.run .. "-k" .. (chosen - 1)
    end
    return concat({ head, #content, "\r\nX-Request-ID: ", id, sent, key, "\r\n\r\n", content })
end

function done(summary, latency, requests)
    local e = summary.errors
    io.write(string.format(
        '\nRESULT {"requests":%d,"duration_us":%d,"bytes":%d,"connect":%d,"read":%d,"write":%d,"status":%d,'
            .. '"timeout":%d,"p50_us":%d,"p99_us":%d,"p999_us":%d,"max_us":%d}\n',
        summary.requests, summary.duration, summary.bytes, e.connect, e.read, e.write, e.status, e.timeout,
        latency:percentile(50), latency:percentile(99), latency:percentile(99.9), latency.max
    ))
end
