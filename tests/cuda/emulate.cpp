/* The runtime half of the emulator: memory, copies, streams, graphs, faults. Kernels run in emulate_kernel.cpp. */
#include "tests/cuda/emulate.h"

#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <map>
#include <mutex>
#include <vector>

#include "tests/cuda/emulate_kernel.h"

/* A copy or the like, or a launch. */
struct emulated_step {
    std::function<void()> call; /* empty: work is a launch */
    sp_emulated_work work;
};
struct sp_emulated_graph { std::vector<emulated_step> steps; };
struct sp_emulated_stream { sp_emulated_graph *recording; };
struct sp_emulated_event { std::chrono::steady_clock::time_point when; };

static const unsigned char guard_byte = 0xA5;

struct emulated_device {
    std::recursive_mutex lock;
    std::map<unsigned char *, size_t> device, host; /* what was allocated, by address */
    size_t limit = 0, used = 0;
    long calls = 0, lose_at = -1;
    cudaError_t last = cudaSuccess;
    std::vector<sp_emulated_work> held; /* a launch that is put off, or none */
    cudaStream_t held_on = nullptr;
    emulated_device()
    {
        const char *memory = std::getenv("SP_EMULATE_MEMORY"), *lose = std::getenv("SP_EMULATE_LOSE");
        if (memory) limit = std::strtoull(memory, nullptr, 10);
        if (lose) lose_at = std::strtol(lose, nullptr, 10);
    }
};

/* Never destroyed: a program may end with memory of it in use. */
static emulated_device &the_device()
{
    static emulated_device *one = new emulated_device;
    return *one;
}

typedef std::lock_guard<std::recursive_mutex> locked;

static cudaError_t answer(cudaError_t error)
{
    if (error != cudaSuccess) the_device().last = error;
    return error;
}

/* Runs the launch that was put off. */
static void catch_up()
{
    emulated_device &d = the_device();
    locked with(d.lock);
    if (d.held.empty()) return;
    sp_emulated_run(d.held[0], nullptr);
    d.held.clear();
}

/* A launch that follows one put off takes it along; of the others every second one or so is put off. */
static void perform(cudaStream_t stream, const emulated_step &step)
{
    emulated_device &d = the_device();
    bool overlaps = !step.call && !step.work.cooperative;
    if (overlaps && !d.held.empty() && d.held_on == stream) {
        sp_emulated_run(step.work, &d.held[0]);
        d.held.clear();
        return;
    }
    catch_up();
    if (overlaps && (sp_emulated_bits() & 1)) {
        d.held.push_back(step.work);
        d.held_on = stream;
    } else if (step.call) {
        step.call();
    } else {
        sp_emulated_run(step.work, nullptr);
    }
}

/* One launch, copy or allocation: does the device still answer? */
static cudaError_t count_call()
{
    emulated_device &d = the_device();
    d.calls++;
    return d.lose_at >= 0 && d.calls > d.lose_at ? answer(cudaErrorLaunchFailure) : cudaSuccess;
}

void sp_emulate_memory(size_t bytes) { the_device().limit = bytes; }
void sp_emulate_lose(long calls) { the_device().lose_at = calls < 0 ? -1 : the_device().calls + calls; }
long sp_emulate_calls() { return the_device().calls; }
size_t sp_emulate_allocations() { return the_device().device.size(); }

const char *cudaGetErrorName(cudaError_t error)
{
    switch (error) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
    case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
    case cudaErrorStreamCaptureUnsupported: return "cudaErrorStreamCaptureUnsupported";
    default: return "cudaErrorUnknown";
    }
}

const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    case cudaErrorLaunchFailure: return "unspecified launch failure";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    default: return "unknown error";
    }
}

cudaError_t cudaPeekAtLastError() { return the_device().last; }
cudaError_t cudaGetLastError()
{
    cudaError_t last = the_device().last;
    the_device().last = cudaSuccess;
    return last;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) { return answer(device == 0 ? cudaSuccess : cudaErrorInvalidDevice); }
cudaError_t cudaGetDevice(int *device)
{
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device)
{
    if (device != 0) return answer(cudaErrorInvalidDevice);
    *p = cudaDeviceProp();
    std::snprintf(p->name, sizeof p->name, "emulated");
    p->totalGlobalMem = the_device().limit ? the_device().limit : static_cast<size_t>(8) << 30;
    p->major = 9;
    p->multiProcessorCount = 4;
    p->sharedMemPerBlockOptin = 227 << 10;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    if (device != 0) return answer(cudaErrorInvalidDevice);
    switch (attribute) {
    case cudaDevAttrMultiProcessorCount: *value = 4; break;
    case cudaDevAttrComputeCapabilityMajor: *value = 9; break;
    case cudaDevAttrComputeCapabilityMinor: *value = 0; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = 227 << 10; break;
    case cudaDevAttrCooperativeLaunch: *value = 1; break;
    }
    return cudaSuccess;
}

/* A lost device stays lost. */
cudaError_t cudaDeviceSynchronize()
{
    catch_up();
    cudaError_t last = the_device().last;
    return last == cudaErrorLaunchFailure ? last : cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    cudaDeviceProp p;
    cudaGetDeviceProperties(&p, 0);
    *total_bytes = p.totalGlobalMem;
    *free_bytes = p.totalGlobalMem - the_device().used;
    return cudaSuccess;
}

/* ---- memory ---- */

static size_t rounded_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

unsigned char *sp_emulated_guarded(size_t bytes)
{
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), pages = rounded_up(bytes, page);
    void *all = mmap(nullptr, pages + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED) return nullptr;
    unsigned char *usable = static_cast<unsigned char *>(all) + page;
    if (mprotect(usable, pages, PROT_READ | PROT_WRITE) != 0) {
        munmap(all, pages + 2 * page);
        return nullptr;
    }
    unsigned char *memory = usable + pages - rounded_up(bytes, 16);
    std::memset(usable, guard_byte, pages);
    std::memset(memory, 0xFF, bytes);
    return memory;
}

/* Gives back what sp_emulated_guarded gave. */
static void release(unsigned char *memory, size_t bytes)
{
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), pages = rounded_up(bytes, page);
    unsigned char *end = memory + rounded_up(bytes, 16), *usable = end - pages;
    for (const unsigned char *at = usable; at < end; at++)
        if ((at < memory || at >= memory + bytes) && *at != guard_byte)
            sp_emulated_wrong("something wrote outside an allocation of device memory");
    munmap(usable - page, pages + 2 * page);
}

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    emulated_device &d = the_device();
    locked with(d.lock);
    cudaError_t error = count_call();
    if (error != cudaSuccess) return error;
    if (d.limit && d.used + bytes > d.limit) return answer(cudaErrorMemoryAllocation);
    unsigned char *memory = bytes ? sp_emulated_guarded(bytes) : nullptr;
    if (bytes && !memory) return answer(cudaErrorMemoryAllocation);
    if (memory) d.device[memory] = bytes;
    d.used += bytes;
    *out = memory;
    return cudaSuccess;
}

cudaError_t cudaFree(void *memory)
{
    emulated_device &d = the_device();
    locked with(d.lock);
    catch_up();
    if (!memory) return cudaSuccess;
    auto found = d.device.find(static_cast<unsigned char *>(memory));
    if (found == d.device.end()) sp_emulated_wrong("cudaFree of what cudaMalloc did not give");
    release(found->first, found->second);
    d.used -= found->second;
    d.device.erase(found);
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned flags)
{
    (void)flags;
    emulated_device &d = the_device();
    locked with(d.lock);
    unsigned char *memory = sp_emulated_guarded(bytes);
    if (!memory) return answer(cudaErrorMemoryAllocation);
    d.host[memory] = bytes;
    *out = memory;
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **out, size_t bytes) { return cudaHostAlloc(out, bytes, 0); }

cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned flags)
{
    (void)flags;
    *device = host;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *memory)
{
    emulated_device &d = the_device();
    locked with(d.lock);
    catch_up();
    if (!memory) return cudaSuccess;
    auto found = d.host.find(static_cast<unsigned char *>(memory));
    if (found == d.host.end()) sp_emulated_wrong("cudaFreeHost of what cudaMallocHost did not give");
    release(found->first, found->second);
    d.host.erase(found);
    return cudaSuccess;
}

bool sp_emulated_inside(const void *at, size_t bytes)
{
    emulated_device &d = the_device();
    unsigned char *address = static_cast<unsigned char *>(const_cast<void *>(at));
    auto after = d.device.upper_bound(address);
    if (after == d.device.begin()) return false;
    --after;
    return address + bytes <= after->first + after->second;
}

static void check_copy(const void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (bytes && to_device && !sp_emulated_inside(to, bytes))
        sp_emulated_wrong("a copy goes outside the device's memory");
    if (bytes && from_device && !sp_emulated_inside(from, bytes))
        sp_emulated_wrong("a copy comes from outside its memory");
}

/* ---- streams and graphs ---- */

static cudaError_t enqueue(cudaStream_t stream, const emulated_step &step)
{
    locked with(the_device().lock);
    if (stream && stream->recording) {
        stream->recording->steps.push_back(step);
        return cudaSuccess;
    }
    cudaError_t error = count_call();
    if (error != cudaSuccess) return error;
    perform(stream, step);
    return cudaSuccess;
}

static cudaError_t enqueue_call(cudaStream_t stream, std::function<void()> call)
{
    return enqueue(stream, emulated_step{call, {}});
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream)
{
    return enqueue_call(stream, [=] {
        check_copy(to, from, bytes, kind);
        if (bytes) std::memmove(to, from, bytes);
    });
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream)
{
    return enqueue_call(stream, [=] {
        for (size_t y = 0; y < height; y++) {
            unsigned char *row = static_cast<unsigned char *>(to) + y * to_pitch;
            const unsigned char *source = static_cast<const unsigned char *>(from) + y * from_pitch;
            check_copy(row, source, width, kind);
            std::memmove(row, source, width);
        }
    });
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    return enqueue_call(stream, [=] {
        check_copy(to, nullptr, bytes, cudaMemcpyHostToDevice);
        if (bytes) std::memset(to, value, bytes);
    });
}

cudaError_t cudaMemset(void *to, int value, size_t bytes) { return cudaMemsetAsync(to, value, bytes, nullptr); }

cudaError_t sp_emulated_launch(std::function<void()> kernel, bool cooperative, dim3 grid, dim3 block, size_t shared,
                               cudaStream_t stream)
{
    size_t threads = static_cast<size_t>(block.x) * block.y * block.z;
    if (threads == 0 || threads > 1024 || threads % 32 || shared > (227 << 10)) return answer(cudaErrorInvalidValue);
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535)
        return answer(cudaErrorInvalidValue);
    return enqueue(stream, emulated_step{nullptr, {kernel, cooperative, grid, block, shared}});
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
    (void)flags;
    *out = new sp_emulated_stream();
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    if (stream && stream->recording) return answer(cudaErrorStreamCaptureUnsupported);
    return cudaDeviceSynchronize();
}

cudaError_t cudaStreamQuery(cudaStream_t stream) { return cudaStreamSynchronize(stream); }
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    (void)stream, (void)event, (void)flags;
    catch_up();
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode)
{
    (void)mode;
    if (!stream || stream->recording) return answer(cudaErrorInvalidValue);
    stream->recording = new sp_emulated_graph;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
    if (!stream || !stream->recording) return answer(cudaErrorInvalidValue);
    *out = stream->recording;
    stream->recording = nullptr;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long flags)
{
    (void)flags;
    *out = new sp_emulated_graph(*graph);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream)
{
    return enqueue_call(stream, [=] {
        for (const emulated_step &step : graph->steps) perform(stream, step);
        catch_up();
    });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph)
{
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags)
{
    (void)flags;
    *out = new sp_emulated_event();
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    return enqueue_call(stream, [=] { event->when = std::chrono::steady_clock::now(); });
}
cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    (void)event;
    return cudaDeviceSynchronize();
}
cudaError_t cudaEventQuery(cudaEvent_t event) { return cudaEventSynchronize(event); }
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end)
{
    *milliseconds = std::chrono::duration<float, std::milli>(end->when - start->when).count();
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    return cudaSuccess;
}

uint64_t sp_clock_ns()
{
    auto now = std::chrono::steady_clock::now().time_since_epoch();
    return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}
