// Copies what libavformat knows of a file into numbers and short texts, so that no pointer of FFmpeg crosses into Rust. FFmpeg's
// structures differ between versions: only a C compiler with FFmpeg's headers reads them right.

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/avstring.h>
#include <libavutil/channel_layout.h>
#include <libavutil/display.h>
#include <libavutil/pixdesc.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// Mirrored in lib.rs, field by field.
struct track {
    int32_t kind;  // 1 pictures, 2 sound, 3 subtitles, 0 other
    int32_t attached_picture, is_default, decodable;
    int32_t width, height;
    int32_t aspect_num, aspect_den;
    int32_t average_num, average_den;
    int32_t base_num, base_den;
    int32_t range;  // 1 limited, 2 full, 0 unspecified
    int32_t scan;   // 1 progressive, 2 interlaced, 0 unspecified
    int32_t turned;
    int32_t matrix[9];
    int64_t start_micros, length_micros, pictures;  // INT64_MIN, INT64_MIN, 0: unknown
    int64_t indexed;
    int32_t unnamed_channels;  // number of channels, if nothing says which they are; else 0
    char codec[32], pixels[32], space[32], transfer[32], language[32], length_tag[32];
};

struct film {
    int32_t tracks;
    int64_t length_micros;
    char format[64];
};

static int64_t micros(int64_t time, AVRational base) {
    return time == AV_NOPTS_VALUE ? INT64_MIN : av_rescale_q(time, base, AV_TIME_BASE_Q);
}

static void text(char *to, size_t size, const char *from) {
    av_strlcpy(to, from ? from : "", size);
}

static int32_t kind(enum AVMediaType type) {
    switch (type) {
        case AVMEDIA_TYPE_VIDEO: return 1;
        case AVMEDIA_TYPE_AUDIO: return 2;
        case AVMEDIA_TYPE_SUBTITLE: return 3;
        default: return 0;
    }
}

static const uint8_t *display_matrix(const AVStream *stream) {
#if LIBAVFORMAT_VERSION_MAJOR >= 61
    const AVPacketSideData *found = av_packet_side_data_get(
        stream->codecpar->coded_side_data, stream->codecpar->nb_coded_side_data, AV_PKT_DATA_DISPLAYMATRIX);
    return found && found->size >= 36 ? found->data : NULL;
#else
    size_t size = 0;
    const uint8_t *found = av_stream_get_side_data(stream, AV_PKT_DATA_DISPLAYMATRIX, &size);
    return size >= 36 ? found : NULL;
#endif
}

static void copy(AVFormatContext *file, AVStream *stream, struct track *track) {
    const AVCodecParameters *codec = stream->codecpar;
    const AVCodecDescriptor *descriptor = avcodec_descriptor_get(codec->codec_id);
    const AVDictionaryEntry *language = av_dict_get(stream->metadata, "language", NULL, 0);
    // Matroska has the length of a single track only in this tag.
    const AVDictionaryEntry *length = av_dict_get(stream->metadata, "DURATION", NULL, 0);
    const AVRational aspect = av_guess_sample_aspect_ratio(file, stream, NULL);
    const uint8_t *matrix = display_matrix(stream);

    track->kind = kind(codec->codec_type);
    track->attached_picture = !!(stream->disposition & AV_DISPOSITION_ATTACHED_PIC);
    track->is_default = !!(stream->disposition & AV_DISPOSITION_DEFAULT);
    track->decodable = avcodec_find_decoder(codec->codec_id) != NULL;
    track->width = codec->width;
    track->height = codec->height;
    track->aspect_num = aspect.num;
    track->aspect_den = aspect.den;
    track->average_num = stream->avg_frame_rate.num;
    track->average_den = stream->avg_frame_rate.den;
    track->base_num = stream->r_frame_rate.num;
    track->base_den = stream->r_frame_rate.den;
    track->start_micros = micros(stream->start_time, stream->time_base);
    track->length_micros = micros(stream->duration, stream->time_base);
    track->pictures = stream->nb_frames;
    track->indexed = avformat_index_get_entries_count(stream);
    text(track->codec, sizeof track->codec, descriptor ? descriptor->name : NULL);
    text(track->language, sizeof track->language, language ? language->value : NULL);
    text(track->length_tag, sizeof track->length_tag, length ? length->value : NULL);
    if (track->kind == 2) {
#if LIBAVUTIL_VERSION_INT >= AV_VERSION_INT(57, 24, 100)
        track->unnamed_channels =
            codec->ch_layout.order == AV_CHANNEL_ORDER_UNSPEC ? codec->ch_layout.nb_channels : 0;
#else
        track->unnamed_channels = codec->channel_layout ? 0 : codec->channels;
#endif
    }
    if (track->kind != 1)
        return;
    track->range = codec->color_range == AVCOL_RANGE_MPEG ? 1 : codec->color_range == AVCOL_RANGE_JPEG ? 2 : 0;
    track->scan = codec->field_order == AV_FIELD_UNKNOWN ? 0 : codec->field_order == AV_FIELD_PROGRESSIVE ? 1 : 2;
    text(track->pixels, sizeof track->pixels, av_get_pix_fmt_name(codec->format));
    if (codec->color_space != AVCOL_SPC_UNSPECIFIED)
        text(track->space, sizeof track->space, av_color_space_name(codec->color_space));
    if (codec->color_trc != AVCOL_TRC_UNSPECIFIED)
        text(track->transfer, sizeof track->transfer, av_color_transfer_name(codec->color_trc));
    if (matrix) {
        track->turned = 1;
        memcpy(track->matrix, matrix, sizeof track->matrix);
    }
}

// Most packets that are read for the first picture.
enum { MOST_PACKETS = 200 };

// The display matrix that the first decoded picture of `stream` carries, as H.264 and HEVC films may: in an SEI message instead of
// the container. Returns whether it has one.
static int matrix_of_first_picture(AVFormatContext *file, AVStream *stream, int32_t *matrix) {
    const AVCodec *codec = avcodec_find_decoder(stream->codecpar->codec_id);
    AVCodecContext *decoder = codec ? avcodec_alloc_context3(codec) : NULL;
    AVPacket *packet = av_packet_alloc();
    AVFrame *frame = av_frame_alloc();
    const AVFrameSideData *side;
    int decoded = 0, found = 0;

    if (decoder && packet && frame && avcodec_parameters_to_context(decoder, stream->codecpar) >= 0 &&
        avcodec_open2(decoder, codec, NULL) >= 0) {
        for (int n = 0; n < MOST_PACKETS && !decoded && av_read_frame(file, packet) >= 0; n++) {
            if (packet->stream_index == stream->index && avcodec_send_packet(decoder, packet) >= 0)
                decoded = avcodec_receive_frame(decoder, frame) >= 0;
            av_packet_unref(packet);
        }
        // A film of few pictures may still be in the decoder.
        if (!decoded && avcodec_send_packet(decoder, NULL) >= 0)
            decoded = avcodec_receive_frame(decoder, frame) >= 0;
        side = decoded ? av_frame_get_side_data(frame, AV_FRAME_DATA_DISPLAYMATRIX) : NULL;
        if (side && side->size >= 36) {
            memcpy(matrix, side->data, 36);
            found = 1;
        }
    }
    av_frame_free(&frame);
    av_packet_free(&packet);
    avcodec_free_context(&decoder);
    return found;
}

static int read_bytes(void *fd, uint8_t *to, int size) {
    ssize_t got;

    do
        got = read(*(int *)fd, to, (size_t)size);
    while (got < 0 && errno == EINTR);
    return got > 0 ? (int)got : got == 0 ? AVERROR_EOF : AVERROR(errno);
}

static int64_t seek_to(void *fd, int64_t to, int whence) {
    struct stat status;
    off_t place;

    if (whence == AVSEEK_SIZE)
        return fstat(*(int *)fd, &status) < 0 ? AVERROR(errno) : status.st_size;
    place = lseek(*(int *)fd, to, whence & ~AVSEEK_FORCE);
    return place < 0 ? AVERROR(errno) : place;
}

// An open film, and what libavformat reads it with.
struct opened {
    int fd;
    AVIOContext *bytes;
    AVFormatContext *file;
};

// Libavformat's own size for files.
enum { BUFFER = 32768 };

static void close_film(struct opened *film) {
    avformat_close_input(&film->file);
    if (film->bytes)
        av_freep(&film->bytes->buffer);
    avio_context_free(&film->bytes);
    if (film->fd >= 0)
        close(film->fd);
}

// Opens the regular file at `path`, and nothing else: libavformat would wait for ever for somebody to write to a pipe, and another
// process may put one in the film's place at any time. Returns 0, or the error of FFmpeg. Call `close_film` in both cases.
static int open_film(const char *path, struct opened *film) {
    AVDictionary *options = NULL;
    struct stat status;
    uint8_t *buffer;
    int result;

    film->fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (film->fd < 0 || fstat(film->fd, &status) < 0)
        return AVERROR(errno);
    if (!S_ISREG(status.st_mode))
        return AVERROR(EINVAL);
    buffer = av_malloc(BUFFER);
    film->bytes = buffer ? avio_alloc_context(buffer, BUFFER, 0, &film->fd, read_bytes, NULL, seek_to) : NULL;
    film->file = avformat_alloc_context();
    if (!film->bytes || !film->file) {
        if (!film->bytes)
            av_free(buffer);
        return AVERROR(ENOMEM);
    }
    film->file->pb = film->bytes;
    // A playlist that is named like a film must not open other files or connections.
    av_dict_set(&options, "protocol_whitelist", "none", 0);
    // The name is not opened: its ending tells some formats.
    result = avformat_open_input(&film->file, path, NULL, &options);
    av_dict_free(&options);
    return result < 0 ? result : 0;
}

// Fills `film` and up to `most` of `tracks`. Returns 0, or the error of FFmpeg, whose text is then in `reason`, of `size` bytes.
int film_facts_read(const char *path, struct film *film, struct track *tracks, int32_t most, char *reason, size_t size) {
    struct opened opened = {.fd = -1};
    int result = open_film(path, &opened);
    AVFormatContext *file = opened.file;

    if (result >= 0)
        result = avformat_find_stream_info(file, NULL);
    if (result >= 0) {
        result = 0;
        text(film->format, sizeof film->format, file->iformat->name);
        film->length_micros = file->duration == AV_NOPTS_VALUE ? INT64_MIN : file->duration;
        film->tracks = file->nb_streams < (unsigned)most ? (int32_t)file->nb_streams : most;
        for (int32_t n = 0; n < film->tracks; n++)
            copy(file, file->streams[n], &tracks[n]);
        // Last, since it reads on. Of the first such track: others would have to be read from the beginning again.
        for (int32_t n = 0; n < film->tracks; n++) {
            const enum AVCodecID id = file->streams[n]->codecpar->codec_id;
            if ((id == AV_CODEC_ID_H264 || id == AV_CODEC_ID_HEVC) && !tracks[n].turned) {
                tracks[n].turned = matrix_of_first_picture(file, file->streams[n], tracks[n].matrix);
                break;
            }
        }
    } else {
        av_strerror(result, reason, size);
    }
    close_film(&opened);
    return result;
}

// Copies the title that a file has for itself, cut to `size` bytes with the zero at the end; an empty text if it has none. Reads the
// file's header only. Returns 0, or the error of FFmpeg.
int film_facts_title(const char *path, char *title, size_t size) {
    struct opened opened = {.fd = -1};
    const int result = open_film(path, &opened);
    const AVDictionaryEntry *entry = result < 0 ? NULL : av_dict_get(opened.file->metadata, "title", NULL, 0);

    text(title, size, entry ? entry->value : NULL);
    close_film(&opened);
    return result;
}

void film_facts_log_level(int level) {
    av_log_set_level(level);
}
